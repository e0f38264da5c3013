"""What the migrations make is what the code needs."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from app import db

pytestmark = [pytest.mark.database, pytest.mark.schema]


def test_migrated_tables_are_those_of_the_models(migrated):
    migrated.upgrade()
    assert migrated.tables() - {"alembic_version"} == set(db.metadata.tables)


def test_migrated_columns_are_those_of_the_models(migrated):
    migrated.upgrade()
    found = migrated.columns()
    for name, table in db.metadata.tables.items():
        wanted = {column.name: column.nullable for column in table.columns}
        assert found[name] == wanted, name


def test_autogenerate_finds_nothing_to_do(migrated):
    migrated.upgrade()
    with migrated.connection() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, db.metadata) == []


def test_foreign_keys_have_the_rules_of_the_models(migrated):
    migrated.upgrade()
    with migrated.connection() as connection:
        inspector = inspect(connection)
        for name, table in db.metadata.tables.items():
            found = {
                (key["constrained_columns"][0], key["options"].get("ondelete"))
                for key in inspector.get_foreign_keys(name)
            }
            wanted = {(key.parent.name, key.ondelete) for key in table.foreign_keys}
            assert found == wanted, name
