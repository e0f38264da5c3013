"""TimeTracker sample app: ``create_app()`` for gunicorn, ``db`` for everything else."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response

from app import models
from app.config import check_secret_key, is_migrate_mode, load_config
from app.durations import format_duration
from app.extensions import csrf, db, login_manager, migrate
from app.money import format_money
from app.version import app_version

__all__ = ["create_app", "db", "models"]

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; frame-ancestors 'none'; form-action 'self'"
)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Builds the app. Opens no database connection, in no mode.

    ``config`` overrides what the environment says (tests use it). In migrate mode
    (TT_BOOTSTRAP_MODE=migrate) nothing is started and nothing is written to disk.
    """
    app = Flask(__name__)
    app.config.from_mapping(load_config(os.environ))
    app.config.from_mapping(config or {})
    app.config["APP_VERSION"] = app.config.get("APP_VERSION") or app_version()
    if app.config["ENVIRONMENT"] == "production":
        check_secret_key(app.config["SECRET_KEY"])
    if not app.debug:
        app.logger.setLevel(logging.INFO)

    _init_extensions(app)
    _register_routes(app)
    if not is_migrate_mode() and not app.testing:
        _start(app)
    return app


def _init_extensions(app: Flask) -> None:
    db.init_app(app)
    migrate.init_app(app, db, render_as_batch=True)
    login_manager.init_app(app)
    csrf.init_app(app)


def _register_routes(app: Flask) -> None:
    from app.cli import register_commands
    from app.routes import register_blueprints

    register_blueprints(app)
    register_commands(app)
    app.add_template_filter(format_duration, "duration")
    app.add_template_filter(format_money, "money")

    @app.context_processor
    def version() -> dict[str, str]:
        return {"app_version": app.config["APP_VERSION"]}

    @app.after_request
    def security_headers(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response


def _start(app: Flask) -> None:
    from app.installation import ensure_installation
    from app.scheduler import Scheduler

    ensure_installation(app)
    scheduler = Scheduler(app, app.config["SCHEDULER_INTERVAL_SECONDS"])
    app.extensions["scheduler"] = scheduler
    scheduler.start()
