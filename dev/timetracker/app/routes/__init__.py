"""The blueprints."""

from flask import Flask

from app.extensions import csrf


def register_blueprints(app: Flask) -> None:
    """Adds every page and the API to the app."""
    from app.routes import (
        api_v1,
        auth,
        clients,
        invoices,
        main,
        projects,
        settings,
        tasks,
        timer,
    )

    for module in (main, auth, clients, projects, tasks, timer, invoices, settings):
        app.register_blueprint(module.blueprint)
    # The API checks by itself: a session needs the CSRF header, a token does not.
    csrf.exempt(api_v1.blueprint)
    app.register_blueprint(api_v1.blueprint)
