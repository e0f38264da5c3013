"""Fixtures: SQLite by default, an own schema on DATABASE_URL when it is given."""

import json
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, event, make_url, text

from app import create_app, db
from app.models import ApiToken, Client, Project, Task, TimeEntry, User

PASSWORD = "correct horse battery"
DATABASE_URL = os.environ.pop("DATABASE_URL", "").strip()
# The environment of the machine must not decide what the tests see.
for name in ("APP_VERSION", "ADMIN_USERNAMES", "TT_BOOTSTRAP_MODE", "SECRET_KEY"):
    os.environ.pop(name, None)
os.environ["FLASK_ENV"] = "testing"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Writes down every test with its markers, for test_counts.py."""
    target = os.environ.get("MARKER_CENSUS")
    if target:
        census = {i.nodeid: sorted({m.name for m in i.iter_markers()}) for i in items}
        Path(target).write_text(json.dumps(census), encoding="utf-8")


class Databases:
    """Makes empty databases: files, or schemas on the Postgres server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schemas: list[str] = []

    def new(self) -> str:
        """The URL of a new empty one."""
        name = f"pytest_{uuid.uuid4().hex}"
        if not DATABASE_URL:
            return f"sqlite:///{self._folder / name}.sqlite"
        self._execute(f"CREATE SCHEMA {name}")
        self._schemas.append(name)
        url = make_url(DATABASE_URL).update_query_dict(
            {"options": f"-csearch_path={name}"}
        )
        return url.render_as_string(hide_password=False)

    def drop_all(self) -> None:
        """Removes what this run made on the server."""
        for name in self._schemas:
            self._execute(f"DROP SCHEMA {name} CASCADE")

    @staticmethod
    def _execute(statement: str) -> None:
        engine = create_engine(DATABASE_URL)
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def databases(tmp_path_factory) -> Iterator[Databases]:
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.drop_all()


def make_app(url: str, folder: Path, **config) -> Flask:
    """An app on this database, with cheap password hashes and without CSRF."""
    return create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "a key that is long enough for production",
            "SQLALCHEMY_DATABASE_URI": url,
            "SQLALCHEMY_ENGINE_OPTIONS": {},
            "INSTALLATION_CONFIG_DIR": str(folder),
            "UPLOAD_FOLDER": str(folder / "uploads"),
            "WTF_CSRF_ENABLED": False,
            "SESSION_COOKIE_SECURE": False,
            "PASSWORD_HASH_METHOD": "pbkdf2:sha256:1",
            **config,
        }
    )


@pytest.fixture(scope="session")
def shared_app(databases, tmp_path_factory) -> Iterator[Flask]:
    application = make_app(databases.new(), tmp_path_factory.mktemp("data"))
    with application.app_context():
        if db.engine.dialect.name == "sqlite":

            @event.listens_for(db.engine, "connect")
            def enforce_foreign_keys(connection, _record):
                connection.execute("PRAGMA foreign_keys = ON")

        db.create_all()
    yield application
    with application.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def app(shared_app, tmp_path) -> Iterator[Flask]:
    """The app with empty tables, an empty data folder and its own configuration."""
    before = dict(shared_app.config)
    shared_app.config["INSTALLATION_CONFIG_DIR"] = str(tmp_path)
    shared_app.config["UPLOAD_FOLDER"] = str(tmp_path / "uploads")
    yield shared_app
    shared_app.config.clear()
    shared_app.config.update(before)
    with shared_app.app_context():
        for table in reversed(db.metadata.sorted_tables):
            db.session.execute(table.delete())
        db.session.commit()


@pytest.fixture
def session(app):
    """A session inside an app context, for tests without HTTP."""
    with app.app_context():
        yield db.session
        db.session.rollback()


@pytest.fixture
def client(app) -> FlaskClient:
    return app.test_client()


class Factory:
    """Makes rows; every method commits and returns the id."""

    def __init__(self, application: Flask) -> None:
        self._app = application
        self._count = 0

    def _add(self, row) -> int:
        db.session.add(row)
        db.session.commit()
        return row.id

    def _name(self, word: str) -> str:
        self._count += 1
        return f"{word}{self._count}"

    def user(self, username: str = "", role: str = "user") -> int:
        with self._app.app_context():
            row = User(username=username or self._name("user"), role=role)
            row.set_password(PASSWORD)
            return self._add(row)

    def client(self, name: str = "", **values) -> int:
        with self._app.app_context():
            return self._add(Client(name=name or self._name("client"), **values))

    def project(self, client_id: int | None = None, name: str = "", **values) -> int:
        owner = client_id or self.client()
        with self._app.app_context():
            name = name or self._name("project")
            return self._add(Project(client_id=owner, name=name, **values))

    def task(self, project_id: int, name: str = "") -> int:
        with self._app.app_context():
            row = Task(project_id=project_id, name=name or self._name("task"))
            return self._add(row)

    def entry(self, user_id: int, project_id: int, hours: int = 1, **values) -> int:
        start = datetime(2026, 3, 2, 9)
        with self._app.app_context():
            row = TimeEntry(
                user_id=user_id, project_id=project_id, start_time=start, **values
            )
            row.stop(start.replace(hour=9 + hours))
            return self._add(row)

    def billed_project(self, user_id: int) -> int:
        """A project at 80 an hour with two entries, of one and of two hours."""
        project_id = self.project(hourly_rate=Decimal("80"))
        self.entry(user_id, project_id, hours=1, notes="design")
        self.entry(user_id, project_id, hours=2, notes="build")
        return project_id

    def token(self, user_id: int) -> str:
        with self._app.app_context():
            row, token = ApiToken.issue(user_id, "test")
            self._add(row)
            return token


@pytest.fixture
def make(app) -> Factory:
    return Factory(app)


@pytest.fixture
def log_in(client):
    """Logs the test client in and returns it."""

    def with_name(username: str) -> FlaskClient:
        answer = client.post(
            "/login", data={"username": username, "password": PASSWORD}
        )
        assert answer.status_code == 302
        return client

    return with_name


@pytest.fixture
def as_user(make, log_in) -> FlaskClient:
    make.user("ute")
    return log_in("ute")


@pytest.fixture
def as_manager(make, log_in) -> FlaskClient:
    make.user("mara", role="manager")
    return log_in("mara")


@pytest.fixture
def as_admin(make, log_in) -> FlaskClient:
    make.user("ada", role="admin")
    return log_in("ada")
