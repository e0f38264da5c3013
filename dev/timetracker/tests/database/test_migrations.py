"""The revisions: one line, up and down, over old data."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

pytestmark = [pytest.mark.database, pytest.mark.migrations]
SCRIPTS = ScriptDirectory(str(Path(__file__).resolve().parents[2] / "migrations"))
OLD_ADMIN = (
    "INSERT INTO users (username, password_hash, is_admin) VALUES ('ada', 'x', :yes)"
)


def test_the_history_is_one_line_of_at_least_eight():
    revisions = list(SCRIPTS.walk_revisions())
    assert len(SCRIPTS.get_heads()) == 1
    assert len(SCRIPTS.get_bases()) == 1
    assert len(revisions) >= 8
    assert all(isinstance(r.down_revision, str | None) for r in revisions)


def test_upgrading_an_empty_database_ends_at_the_head(migrated, capsys):
    migrated.upgrade()
    assert migrated.heads() == set(SCRIPTS.get_heads())
    assert "[alembic] offline_mode=False" in capsys.readouterr().out


def test_every_downgrade_leaves_what_was_there_before(migrated):
    revisions = [r.revision for r in reversed(list(SCRIPTS.walk_revisions()))]
    schemas = []
    for revision in revisions:
        schemas.append(migrated.columns())
        migrated.upgrade(revision)
    for _ in revisions:
        migrated.downgrade("-1")
        after = {t: c for t, c in migrated.columns().items() if t != "alembic_version"}
        before = schemas.pop()
        before.pop("alembic_version", None)
        assert after == before


def test_old_admins_become_admins_by_role_and_back(migrated):
    migrated.upgrade("006_project_budget")
    migrated.execute(OLD_ADMIN, yes=True)
    migrated.upgrade("007_user_roles")
    assert migrated.execute("SELECT role FROM users") == [("admin",)]
    migrated.downgrade("006_project_budget")
    assert [bool(row[0]) for row in migrated.execute("SELECT is_admin FROM users")] == [
        True
    ]


def test_old_data_is_still_there_after_all_migrations(migrated):
    migrated.upgrade("002_time_entries")
    migrated.execute(OLD_ADMIN, yes=True)
    migrated.execute("INSERT INTO clients (name) VALUES ('Acme')")
    migrated.execute("INSERT INTO projects (client_id, name) VALUES (1, 'relaunch')")
    migrated.execute(
        "INSERT INTO time_entries (user_id, project_id, start_time)"
        " VALUES (1, 1, '2026-03-02 09:00:00')"
    )
    migrated.upgrade()
    rows = migrated.execute(
        "SELECT c.name, p.name, t.billable FROM time_entries t"
        " JOIN projects p ON p.id = t.project_id JOIN clients c ON c.id = p.client_id"
    )
    assert [(c, p, bool(b)) for c, p, b in rows] == [("Acme", "relaunch", True)]
