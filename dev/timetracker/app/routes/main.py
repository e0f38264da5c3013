"""Start page, dashboard, health and readiness."""

from flask import Blueprint, current_app, jsonify, render_template
from flask_login import current_user
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from app.extensions import db
from app.forms import ActionForm, TimerForm
from app.installation import read_installation
from app.models import TimeEntry
from app.routes.choices import project_choices

blueprint = Blueprint("main", __name__)


@blueprint.get("/_health")
def health():
    """The process answers. Says nothing about the database."""
    return jsonify(status="healthy")


@blueprint.get("/_ready")
def ready():
    """The database answers."""
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        db.session.rollback()
        current_app.logger.warning("not ready: %s", type(error).__name__)
        return jsonify(status="not_ready", error="db_unreachable"), 503
    return jsonify(status="ready")


@blueprint.get("/")
def index():
    """The dashboard, or a page that asks to log in (without any database access)."""
    if not current_user.is_authenticated:
        return render_template("welcome.html")
    form = TimerForm()
    form.project_id.choices = project_choices()
    entries = db.session.scalars(
        select(TimeEntry)
        .where(TimeEntry.user_id == current_user.id)
        .order_by(TimeEntry.start_time.desc())
        .limit(10)
    ).all()
    return render_template(
        "dashboard.html",
        form=form,
        action=ActionForm(),
        running=TimeEntry.running_for(current_user.id),
        entries=entries,
        setup_complete=read_installation(current_app).get("setup_complete", False),
    )
