"""The JSON API."""

import pytest

from app import db
from app.models import ApiToken, User

pytestmark = pytest.mark.api
ENTRY = {"start_time": "2026-03-02T09:00:00Z", "end_time": "2026-03-02T10:30:00Z"}


@pytest.fixture
def user_id(make):
    return make.user("ute")


@pytest.fixture
def api(client, make, user_id):
    """Requests with the user's token."""
    return Api(client, make.token(user_id))


class Api:
    def __init__(self, client, token):
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path):
        return self._client.get(f"/api/v1{path}", headers=self._headers)

    def post(self, path, body=None):
        return self._client.post(f"/api/v1{path}", json=body, headers=self._headers)

    def delete(self, path):
        return self._client.delete(f"/api/v1{path}", headers=self._headers)


def test_health_and_version_need_no_token(client):
    assert client.get("/api/v1/health").json == {"status": "healthy"}
    assert client.get("/api/v1/version").json["name"] == "timetracker"


def test_me_is_the_owner_of_the_token(api, user_id):
    assert api.get("/me").json == {"id": user_id, "username": "ute", "role": "user"}


def test_a_token_may_come_in_x_api_key(client, make, user_id):
    headers = {"X-API-Key": make.token(user_id)}
    assert client.get("/api/v1/me", headers=headers).json["username"] == "ute"


def test_using_a_token_is_written_down(app, api):
    api.get("/me")
    with app.app_context():
        assert db.session.query(ApiToken).one().last_used_at is not None


def test_a_session_may_read(as_user):
    assert as_user.get("/api/v1/me").json["username"] == "ute"


def test_clients_come_in_pages(api, make):
    for number in range(51):
        make.client(f"client {number:02d}")
    first, second = api.get("/clients").json, api.get("/clients?page=2").json
    assert (len(first["items"]), first["has_next"]) == (50, True)
    assert [c["name"] for c in second["items"]] == ["client 50"]
    assert second["has_next"] is False


def test_a_manager_creates_a_client_once(app, client, make):
    manager = Api(client, make.token(make.user(role="manager")))
    created = manager.post("/clients", {"name": "Acme"})
    assert (created.status_code, created.json["name"]) == (201, "Acme")
    assert manager.post("/clients", {"name": "Acme"}).status_code == 409


def test_a_project_shows_its_tracked_time(api, make, user_id):
    project_id = make.project(name="relaunch")
    make.entry(user_id, project_id, hours=2)
    found = api.get(f"/projects/{project_id}").json
    assert (found["name"], found["tracked_seconds"]) == ("relaunch", 7200)
    assert api.get("/projects").json["items"] == [found]


def test_a_project_that_does_not_exist_is_a_json_404(api):
    answer = api.get("/projects/4711")
    assert (answer.status_code, answer.json["error"]) == (404, "Not Found")


def test_an_entry_is_created_listed_and_deleted(api, make):
    created = api.post("/time-entries", {**ENTRY, "project_id": make.project()})
    assert created.status_code == 201
    assert created.json["duration_seconds"] == 5400
    assert api.get("/time-entries").json["items"] == [created.json]
    assert api.delete(f"/time-entries/{created.json['id']}").status_code == 204
    assert api.get("/time-entries").json["items"] == []


def test_times_with_a_zone_are_stored_in_utc(api, make):
    body = {"start_time": "2026-03-02T09:00:00+02:00", "end_time": ENTRY["end_time"]}
    created = api.post("/time-entries", {**body, "project_id": make.project()})
    assert created.json["start_time"] == "2026-03-02T07:00:00Z"


def test_a_malformed_entry_is_refused_with_a_reason(api, make):
    project_id = make.project()
    assert api.post("/time-entries").status_code == 400
    no_project = api.post("/time-entries", ENTRY)
    assert (no_project.status_code, "project_id" in no_project.text) == (422, True)
    no_time = api.post("/time-entries", {"project_id": project_id, "start_time": "x"})
    assert (no_time.status_code, "start_time" in no_time.text) == (422, True)
    swapped = {"start_time": ENTRY["end_time"], "end_time": ENTRY["start_time"]}
    backwards = api.post("/time-entries", {"project_id": project_id, **swapped})
    assert backwards.json["message"] == "an entry ends after its start"


def test_the_timer_is_started_and_stopped(api, make):
    assert api.get("/timer").json == {"timer": None}
    started = api.post("/timer/start", {"project_id": make.project()})
    assert started.status_code == 201
    assert api.get("/timer").json["timer"]["id"] == started.json["id"]
    assert api.post("/timer/stop").json["end_time"] is not None
    assert api.post("/timer/stop").status_code == 409


def test_a_revoked_token_or_user_is_refused(app, api, user_id):
    assert api.get("/me").status_code == 200
    with app.app_context():
        db.session.get(User, user_id).is_active = False
        db.session.commit()
    assert api.get("/me").status_code == 401
    with app.app_context():
        db.session.get(User, user_id).is_active = True
        db.session.query(ApiToken).one().revoked = True
        db.session.commit()
    assert api.get("/me").status_code == 401
