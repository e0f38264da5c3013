"""The JSON API: a bearer token, or the session of a logged-in browser."""

from datetime import datetime
from typing import Any

from flask import Blueprint, abort, current_app, g, jsonify, request
from flask_login import current_user
from sqlalchemy import select
from werkzeug.exceptions import HTTPException

from app.access import get_or_404, owned_or_404
from app.conflicts import commit_unless_taken
from app.durations import parse_timestamp, utc_now
from app.extensions import csrf, db
from app.models import ApiToken, Client, Project, TimeEntry, User

blueprint = Blueprint("api_v1", __name__, url_prefix="/api/v1")
PUBLIC = frozenset({"api_v1.health", "api_v1.version"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_SIZE = 50


@blueprint.before_request
def authenticate() -> None:
    """Sets ``g.user`` or answers 401; a session's write needs its CSRF header."""
    if request.endpoint in PUBLIC:
        return
    token = _token_of_request()
    if token is not None:
        row = ApiToken.find(token)
        if row is None:
            abort(401, "This token is not valid.")
        row.last_used_at = utc_now()
        g.user = row.user
        return
    if not current_user.is_authenticated:
        abort(401, "A token or a session is needed.")
    if request.method not in SAFE_METHODS and current_app.config["WTF_CSRF_ENABLED"]:
        csrf.protect()
    g.user = current_user


@blueprint.errorhandler(HTTPException)
def error(exception: HTTPException):
    """Errors are JSON as well."""
    return jsonify(error=exception.name, message=exception.description), exception.code


@blueprint.get("/health")
def health():
    """The process answers."""
    return jsonify(status="healthy")


@blueprint.get("/version")
def version():
    """Which version this is."""
    return jsonify(name="timetracker", version=current_app.config["APP_VERSION"])


@blueprint.get("/me")
def me():
    """The user for whom the request acts."""
    user: User = g.user
    db.session.commit()
    return jsonify(id=user.id, username=user.username, role=user.role)


@blueprint.get("/clients")
def clients():
    """A page of clients."""
    return _page(select(Client).order_by(Client.id), _client)


@blueprint.post("/clients")
def create_client():
    """A new client, by managers."""
    if not g.user.is_manager:
        abort(403)
    client = Client(name=_text(_body(), "name"))
    db.session.add(client)
    if not commit_unless_taken():
        abort(409, "There is a client of that name.")
    return jsonify(_client(client)), 201


@blueprint.get("/projects")
def projects():
    """A page of projects."""
    return _page(select(Project).order_by(Project.id), _project)


@blueprint.get("/projects/<int:project_id>")
def project(project_id: int):
    """One project."""
    return jsonify(_project(get_or_404(Project, project_id)))


@blueprint.get("/time-entries")
def time_entries():
    """A page of the user's entries."""
    query = select(TimeEntry).where(TimeEntry.user_id == g.user.id)
    return _page(query.order_by(TimeEntry.id), _entry)


@blueprint.post("/time-entries")
def create_time_entry():
    """A new entry with start and end."""
    body = _body()
    entry = TimeEntry(
        user_id=g.user.id,
        project_id=_open_project(body).id,
        start_time=_timestamp(body, "start_time"),
        notes=body.get("notes") if isinstance(body.get("notes"), str) else None,
        source="api",
    )
    try:
        entry.stop(_timestamp(body, "end_time"))
    except ValueError as problem:
        abort(422, str(problem))
    db.session.add(entry)
    db.session.commit()
    return jsonify(_entry(entry)), 201


@blueprint.delete("/time-entries/<int:entry_id>")
def delete_time_entry(entry_id: int):
    """Deletes an entry that is on no invoice."""
    entry = owned_or_404(TimeEntry, entry_id, g.user)
    if entry.invoice_id is not None:
        abort(409, "This entry is billed.")
    db.session.delete(entry)
    db.session.commit()
    return "", 204


@blueprint.get("/timer")
def timer():
    """The running timer, or null."""
    running = TimeEntry.running_for(g.user.id)
    return jsonify(timer=_entry(running) if running else None)


@blueprint.post("/timer/start")
def start_timer():
    """Starts a timer and stops the one that runs."""
    entry = TimeEntry.start_timer(g.user.id, _open_project(_body()).id)
    if not commit_unless_taken():
        abort(409, "A timer was started elsewhere.")
    return jsonify(_entry(entry)), 201


@blueprint.post("/timer/stop")
def stop_timer():
    """Stops the running timer."""
    running = TimeEntry.running_for(g.user.id)
    if running is None:
        abort(409, "No timer runs.")
    running.stop()
    db.session.commit()
    return jsonify(_entry(running))


def _token_of_request() -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("X-API-Key")


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(400, "The body must be a JSON object.")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        abort(422, f"{name} must be a text of 1 to 200 characters.")
    return value.strip()


def _timestamp(body: dict[str, Any], name: str) -> datetime:
    try:
        return parse_timestamp(body[name])
    except (KeyError, TypeError, ValueError):
        abort(422, f"{name} must be an ISO 8601 time.")


def _open_project(body: dict[str, Any]) -> Project:
    identifier = body.get("project_id")
    if type(identifier) is not int:
        abort(422, "project_id must be a number.")
    found = db.session.get(Project, identifier)
    if found is None or not found.is_active:
        abort(422, "This project is not open.")
    return found


def _page(query, to_json):
    page = max(request.args.get("page", 1, type=int), 1)
    rows = db.session.scalars(
        query.limit(PAGE_SIZE + 1).offset((page - 1) * PAGE_SIZE)
    ).all()
    items = [to_json(row) for row in rows[:PAGE_SIZE]]
    return jsonify(items=items, page=page, has_next=len(rows) > PAGE_SIZE)


def _client(client: Client) -> dict[str, Any]:
    return {"id": client.id, "name": client.name, "contact": client.contact}


def _project(row: Project) -> dict[str, Any]:
    return {
        "id": row.id,
        "client_id": row.client_id,
        "name": row.name,
        "status": row.status,
        "billable": row.billable,
        "tracked_seconds": row.tracked_seconds(),
    }


def _entry(entry: TimeEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "project_id": entry.project_id,
        "start_time": entry.start_time.isoformat() + "Z",
        "end_time": entry.end_time.isoformat() + "Z" if entry.end_time else None,
        "duration_seconds": entry.duration_seconds,
        "notes": entry.notes,
        "source": entry.source,
    }
