"""A database of its own for every test that migrates."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.migration import MigrationContext
from tests.conftest import make_app
from flask_migrate import downgrade, upgrade
from sqlalchemy import inspect, text

from app import db


class Migrated:
    """An empty database, and what migrations make of it."""

    def __init__(self, app) -> None:
        self._app = app

    def upgrade(self, revision: str = "heads") -> None:
        with self._app.app_context():
            upgrade(revision=revision)

    def downgrade(self, revision: str) -> None:
        with self._app.app_context():
            downgrade(revision=revision)

    @contextmanager
    def connection(self) -> Iterator:
        with self._app.app_context(), db.engine.begin() as connection:
            yield connection

    def execute(self, statement: str, **values):
        with self.connection() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def heads(self) -> set[str]:
        with self.connection() as connection:
            return set(MigrationContext.configure(connection).get_current_heads())

    def tables(self) -> set[str]:
        with self.connection() as connection:
            return set(inspect(connection).get_table_names())

    def columns(self) -> dict[str, dict[str, bool]]:
        """Table → column → whether it may be NULL."""
        with self.connection() as connection:
            inspector = inspect(connection)
            return {
                table: {c["name"]: c["nullable"] for c in inspector.get_columns(table)}
                for table in inspector.get_table_names()
            }

    def close(self) -> None:
        with self._app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def migrated(databases, tmp_path) -> Iterator[Migrated]:
    database = Migrated(make_app(databases.new(), tmp_path))
    yield database
    database.close()
