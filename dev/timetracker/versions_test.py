"""Proves on a real Postgres that each version does what its name says.

Needs DATABASE_URL of a server on which databases may be created; every test uses one of
its own and drops it. Not part of the app's suite:

    DATABASE_URL=postgresql://postgres@127.0.0.1:5432/postgres pytest versions_test.py
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

import versions

SERVER = os.environ.get("DATABASE_URL", "")
NINE = "009_settings_invoice_numbering_tax_and_logo"
TEN = "010_vat_numbers_and_holidays"
NOTHING = {"missing tables": [], "missing columns": [], "unknown required": []}
CONTRACT = """
import json
from app import create_app, db
create_app()
print(json.dumps({t.name: {c.name: c.nullable for c in t.columns}
                  for t in db.metadata.tables.values()}))
"""
# Everything a user does on one day, over HTTP, in one process; prints path → status.
PROBE = """
import json, sys
from app import create_app
client = create_app({"PROPAGATE_EXCEPTIONS": False}).test_client()
who = {"username": "admin", "password": "correct horse battery"}
seen = {"/_health": client.get("/_health"), "/_ready": client.get("/_ready")}
if client.post("/login", data=who).status_code == 401:
    seen["register"] = client.post("/register", data=who)
seen["/"] = client.get("/")
for page in ("clients", "projects", "entries", "invoices", "settings"):
    seen[page] = client.get("/" + page)
name = sys.argv[1]
seen["new client"] = client.post("/clients", data={"name": name})
clients = client.get("/api/v1/clients").json
owner = clients["items"][-1]["id"] if "items" in clients else 0
seen["new project"] = client.post("/projects", data={"client_id": owner, "name": name})
print(json.dumps({path: answer.status_code for path, answer in seen.items()}))
"""


def answers(url: str) -> tuple[int, str]:
    """Status and body; 0 when nothing listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@dataclass
class Database:
    """A database of one test."""

    url: str

    def execute(self, statement: str) -> list[tuple]:
        engine = create_engine(self.url)
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows

    def snapshot(self) -> dict[str, dict[str, tuple[bool, bool]]]:
        """Table → column → (may be NULL, has a default of the server)."""
        engine = create_engine(self.url)
        inspector = inspect(engine)
        found = {
            table: {
                column["name"]: (column["nullable"], column["default"] is not None)
                for column in inspector.get_columns(table)
            }
            for table in inspector.get_table_names()
        }
        engine.dispose()
        return found

    def revisions(self) -> set[str]:
        if "alembic_version" not in self.snapshot():
            return set()
        return {
            row[0] for row in self.execute("SELECT version_num FROM alembic_version")
        }


@dataclass
class Release:
    """The tree of one version, run by the Python that runs this test."""

    tree: Path
    data: Path

    def environment(self, database: Database, **more: str) -> dict[str, str]:
        kept = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        return {
            **kept,
            "FLASK_APP": "app",
            "FLASK_ENV": "production",
            "SECRET_KEY": "k" * 48,
            "DATABASE_URL": database.url,
            "INSTALLATION_CONFIG_DIR": str(self.data),
            "TT_BOOTSTRAP_MODE": "migrate",
            **more,
        }

    def python(
        self, database: Database, *arguments: str, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.tree,
            env=self.environment(database, **more),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def flask_db(self, database: Database, *arguments: str):
        return self.python(database, "-m", "flask", "db", *arguments)

    def upgrade(self, database: Database) -> None:
        done = self.flask_db(database, "upgrade", "heads")
        assert done.returncode == 0, done.stderr

    def contract(self) -> dict[str, dict[str, bool]]:
        """What the code needs; read without any database."""
        nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
        done = self.python(nowhere, "-c", CONTRACT)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def compatibility(self, database: Database) -> dict[str, list[str]]:
        """What of the contract the database breaks, as the operator compares it."""
        contract, snapshot = self.contract(), database.snapshot()
        shared = [table for table in contract if table in snapshot]
        return {
            "missing tables": sorted(contract.keys() - snapshot.keys()),
            "missing columns": sorted(
                f"{t}.{c}" for t in shared for c in contract[t] if c not in snapshot[t]
            ),
            "unknown required": sorted(
                f"{t}.{c}"
                for t in shared
                for c, (nullable, default) in snapshot[t].items()
                if c not in contract[t] and not nullable and not default
            ),
        }

    def use(self, database: Database) -> dict[str, int]:
        """A user's day; path → status."""
        done = self.python(
            database,
            *("-c", PROBE, uuid.uuid4().hex),
            FLASK_ENV="development",
            WTF_CSRF_ENABLED="false",
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def failures(self, database: Database) -> set[str]:
        return {path for path, code in self.use(database).items() if code >= 500}


@pytest.fixture
def database() -> Iterator[Database]:
    name = f"versions_{uuid.uuid4().hex}"
    administration = create_engine(SERVER, isolation_level="AUTOCOMMIT")
    with administration.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = make_url(SERVER).set(database=name)
    yield Database(url.render_as_string(hide_password=False))
    with administration.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    administration.dispose()


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Callable[[str], Release]:
    made: dict[str, Release] = {}

    def of(name: str) -> Release:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            found = versions.load_versions()
            versions.export(found, versions.find(found, name), folder / "tree")
            made[name] = Release(folder / "tree", folder / "data")
        return made[name]

    return of


def test_the_server_is_postgres_16(database):
    assert database.execute("SHOW server_version")[0][0].startswith("16.")


def test_every_version_tells_its_tag(release, database):
    for version in versions.load_versions().values():
        done = release(version.name).python(
            database, "-c", "from app.version import *; print(app_version())"
        )
        assert done.stdout.strip() == version.tag


def test_base_serves_under_gunicorn_and_keeps_its_own_schema(release, database):
    base = release("base")
    base.upgrade(database)
    assert database.revisions() == {NINE}
    assert base.compatibility(database) == NOTHING
    assert base.failures(database) == set()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
        + ["--workers", "1", "app:create_app()"],
        cwd=base.tree,
        env=base.environment(database, TT_BOOTSTRAP_MODE=""),
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        limit = time.monotonic() + 30
        while answers(f"{address}/_health")[0] == 0 and time.monotonic() < limit:
            assert server.poll() is None
            time.sleep(0.1)
        assert json.loads(answers(f"{address}/_ready")[1]) == {"status": "ready"}
        assert '<span id="version">1.0.0</span>' in answers(f"{address}/")[1]
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_base_refuses_a_weak_secret_key_with_a_failure(release, database):
    for key in ("", "your-secret-key-change-this", "short"):
        done = release("base").python(
            database, "-c", "from app import create_app; create_app()", SECRET_KEY=key
        )
        assert done.returncode != 0
        assert "SECRET_KEY" in done.stderr


def test_current_prints_the_line_of_the_environment_first(release, database):
    base = release("base")
    base.upgrade(database)
    done = base.flask_db(database, "current")
    assert done.stdout.splitlines() == [
        "[alembic] offline_mode=False",
        f"{NINE} (head)",
    ]


def test_reading_the_current_revision_changes_nothing(release, database):
    assert release("base").flask_db(database, "current").returncode == 0
    assert database.snapshot() == {}


@pytest.mark.parametrize(
    ("name", "parent"), [("plain-step", "base"), ("no-migrations", "additive")]
)
def test_a_step_without_migrations_changes_only_the_image(
    release, database, name, parent
):
    release(parent).upgrade(database)
    before = database.snapshot()
    release(name).upgrade(database)
    assert database.snapshot() == before
    assert release(name).contract() == release(parent).contract()
    assert release(name).failures(database) == set()


def test_after_the_additive_migration_old_code_still_works(release, database):
    release("plain-step").upgrade(database)
    before = database.snapshot()
    additive, old = release("additive"), release("plain-step")
    assert additive.compatibility(database)["missing tables"] == ["holidays"]
    additive.upgrade(database)
    assert database.revisions() == {TEN}
    for code in (additive, old):
        assert code.compatibility(database) == NOTHING
        assert code.failures(database) == set()
    assert additive.flask_db(database, "downgrade", NINE).returncode == 0
    assert database.snapshot() == before


def test_after_the_contracting_migration_old_code_fails_but_is_ready(release, database):
    release("additive").upgrade(database)
    assert release("additive").failures(database) == set()
    before = database.snapshot()
    new, old = release("contracting"), release("additive")
    new.upgrade(database)
    assert new.compatibility(database) == NOTHING
    assert new.failures(database) == set()
    assert old.compatibility(database)["missing columns"] == [
        *("clients.contact", "projects.legacy_code")
    ]
    used = old.use(database)
    assert used["/_ready"] == 200
    assert {used["clients"], used["projects"], used["new client"]} == {500}
    assert new.flask_db(database, "downgrade", TEN).returncode == 0
    assert database.snapshot() == before
    assert old.failures(database) == set()


def test_the_required_column_breaks_only_inserts_of_old_code(release, database):
    release("contracting").upgrade(database)
    assert release("contracting").failures(database) == set()
    before = database.snapshot()
    new, old = release("required-column"), release("contracting")
    new.upgrade(database)
    assert database.execute("SELECT billing_code FROM projects") == [("P-1",)]
    assert new.compatibility(database) == NOTHING
    assert new.failures(database) == set()
    assert old.compatibility(database) == {
        **NOTHING,
        "unknown required": ["projects.billing_code"],
    }
    used = old.use(database)
    assert used["/_ready"] == used["projects"] == used["new client"] - 102 == 200
    assert used["new project"] == 500
    assert len(database.execute("SELECT id FROM projects")) == 2
    assert new.flask_db(database, "downgrade", "011_contact_names").returncode == 0
    assert database.snapshot() == before


def test_the_broken_migration_leaves_nothing_behind(release, database):
    release("additive").upgrade(database)
    before = database.snapshot()
    done = release("broken-halfway").flask_db(database, "upgrade", "heads")
    assert done.returncode != 0
    assert "profile_language" in done.stderr
    # It got through one revision and a column of the next before it failed.
    assert "011_task_priorities -> 012_user_locales" in done.stderr
    assert database.snapshot() == before
    assert database.revisions() == {TEN}
    assert release("additive").failures(database) == set()


def test_the_broken_migration_leaves_an_empty_database_empty(release, database):
    done = release("broken-halfway").flask_db(database, "upgrade", "heads")
    assert done.returncode != 0
    assert database.snapshot() == {}


def test_the_swallowed_error_exits_0_and_the_table_is_missing(release, database):
    release("additive").upgrade(database)
    new = release("swallowed")
    done = new.flask_db(database, "upgrade", "heads")
    assert done.returncode == 0
    assert "reminders: skipped" in done.stdout
    assert database.revisions() == {"011_reminders"}
    assert new.compatibility(database) == {**NOTHING, "missing tables": ["reminders"]}
    assert new.use(database)["/_ready"] == 200
    assert new.flask_db(database, "downgrade", TEN).returncode == 0
    assert database.revisions() == {TEN}


def test_two_heads_need_heads_and_leave_two_rows(release, database):
    release("additive").upgrade(database)
    before = database.snapshot()
    new = release("two-heads")
    listed = new.flask_db(database, "heads").stdout.splitlines()
    assert sorted(listed) == ["011_task_colors (head)", "011_user_phones (head)"]
    plain = new.flask_db(database, "upgrade")
    assert plain.returncode != 0
    assert "Multiple head revisions" in plain.stderr
    new.upgrade(database)
    assert database.revisions() == {"011_task_colors", "011_user_phones"}
    for code in (new, release("additive")):
        assert code.compatibility(database) == NOTHING
        assert code.failures(database) == set()
    assert new.flask_db(database, "downgrade", TEN).returncode == 0
    assert database.snapshot() == before


@pytest.mark.parametrize("name", ["never-ready", "contracting-never-ready"])
def test_never_ready_is_healthy_and_never_ready(release, database, name):
    new = release(name)
    new.upgrade(database)
    used = new.use(database)
    assert (used["/_health"], used["/_ready"]) == (200, 503)
    assert new.failures(database) == {"/_ready"}
    assert new.compatibility(database) == NOTHING


def test_the_contracting_one_that_is_never_ready_leaves_no_way_back(release, database):
    release("additive").upgrade(database)
    release("contracting-never-ready").upgrade(database)
    assert database.revisions() == {"011_contact_names"}
    assert release("contracting").compatibility(database) == NOTHING
    assert release("additive").compatibility(database)["missing columns"] == [
        *("clients.contact", "projects.legacy_code")
    ]


def test_old_code_does_not_know_newer_revisions(release, database):
    release("additive").upgrade(database)
    done = release("base").flask_db(database, "upgrade", "heads")
    assert done.returncode != 0
    assert f"Can't locate revision identified by '{TEN}'" in done.stderr


def test_the_start_script_wipes_a_foreign_database_unless_told_not_to(
    release, database, tmp_path
):
    database.execute("CREATE TABLE of_somebody_else (id INTEGER)")
    stand_in = tmp_path / "gunicorn"
    stand_in.write_text('#!/bin/sh\necho "serve $*"\n')
    stand_in.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    base = release("base")
    for skip, kept in (("true", True), ("", False)):
        if skip:
            done = base.python(database, "start.py", PATH=path, TT_SKIP_DB_CLEANUP=skip)
        else:
            database.execute("DROP SCHEMA public CASCADE")
            database.execute("CREATE SCHEMA public")
            database.execute("CREATE TABLE of_somebody_else (id INTEGER)")
            done = base.python(database, "start.py", PATH=path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("serve --bind 0.0.0.0:8080")
        assert ("of_somebody_else" in database.snapshot()) is kept
        assert database.revisions() == {NINE}


def test_the_repository_has_a_commit_and_a_tag_per_version_and_is_reproducible(
    tmp_path,
):
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    for name in ("one", "two"):
        assert versions.main(["--out", str(tmp_path / name), "--git"]) == 0
    refs = [git("-C", name, "show-ref") for name in ("one", "two")]
    assert refs[0] == refs[1]
    git("clone", "--quiet", "--bare", "one", "bare.git")
    found = versions.load_versions().values()
    assert git("-C", "bare.git", "tag", "--sort=v:refname").split() == [
        version.git_tag for version in found
    ]
    for version in found:
        setup = git("-C", "bare.git", "show", f"{version.git_tag}:setup.py")
        assert f'version="{version.tag}"' in setup
    parent = git("-C", "bare.git", "rev-parse", "v1.8.0^", "v1.1.0").split()
    assert parent[0] == parent[1]
