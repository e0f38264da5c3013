"""Commands of ``flask``: what the start script does besides migrating."""

import click
from flask import Flask, current_app
from sqlalchemy import func, select

from app.extensions import db
from app.models import Role, Settings, User


def ensure_default_data() -> int:
    """Creates the settings row and makes ADMIN_USERNAMES admins; returns how many."""
    Settings.get()
    names = current_app.config["ADMIN_USERNAMES"]
    promoted = db.session.scalars(
        select(User).where(
            func.lower(User.username).in_(names), User.role != Role.ADMIN.value
        )
    ).all()
    for user in promoted:
        user.role = Role.ADMIN.value
    db.session.commit()
    return len(promoted)


def register_commands(app: Flask) -> None:
    """Adds the commands to the app."""

    @app.cli.command("ensure-defaults")
    def ensure_defaults() -> None:
        """Create default rows and promote the first administrators."""
        click.echo(f"{ensure_default_data()} user(s) made admin")

    @app.cli.command("create-user")
    @click.argument("username")
    @click.option("--role", default=Role.USER.value)
    @click.password_option()
    def create_user(username: str, role: str, password: str) -> None:
        """Create a user."""
        user = User(username=username, role=Role(role).value)
        user.set_password(password)
        db.session.add(user)
        db.session.commit()
        click.echo(f"user {username} created")
