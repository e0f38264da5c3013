"""The app starts and its most important pages answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import create_app, db
from app.version import version_from_setup

pytestmark = pytest.mark.smoke
ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_app_is_created(app):
    assert app.name == "app"
    assert app.config["TESTING"] is True


def test_the_metadata_is_filled_without_a_database():
    assert {"users", "clients", "projects", "time_entries", "settings"} <= set(
        db.metadata.tables
    )


@pytest.mark.routes
def test_health_says_healthy(client):
    answer = client.get("/_health")
    assert (answer.status_code, answer.json) == (200, {"status": "healthy"})


@pytest.mark.routes
def test_ready_says_ready(client):
    answer = client.get("/_ready")
    assert (answer.status_code, answer.json) == (200, {"status": "ready"})


@pytest.mark.routes
def test_the_start_page_shows_the_version(client):
    page = client.get("/").text
    assert f'<span id="version">{version_from_setup()}</span>' in page


@pytest.mark.routes
def test_the_login_page_asks_for_a_password(client):
    answer = client.get("/login")
    assert answer.status_code == 200
    assert 'type="password"' in answer.text


@pytest.mark.routes
def test_the_style_sheet_is_served(client):
    answer = client.get("/static/style.css")
    assert answer.mimetype == "text/css"


@pytest.mark.routes
def test_an_unknown_page_is_404(client):
    assert client.get("/no-such-page").status_code == 404


def test_the_api_tells_the_version(client):
    assert client.get("/api/v1/version").json == {
        "name": "timetracker",
        "version": version_from_setup(),
    }


def test_every_blueprint_is_there(app):
    assert set(app.blueprints) == {
        *("main", "auth", "clients", "projects", "tasks"),
        *("timer", "invoices", "settings", "api_v1"),
    }


def test_a_user_can_log_in(as_user):
    assert "Hello ute" in as_user.get("/").text


def test_the_tests_start_no_scheduler(app):
    assert "scheduler" not in app.extensions


def test_migrate_mode_writes_nothing_and_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TT_BOOTSTRAP_MODE", "migrate")
    data = tmp_path / "data"
    application = create_app(
        {
            "INSTALLATION_CONFIG_DIR": str(data),
            "SQLALCHEMY_DATABASE_URI": "postgresql://nobody@127.0.0.1:1/none",
        }
    )
    assert "scheduler" not in application.extensions
    assert not data.exists()
    listed = subprocess.run(
        [sys.executable, "-c", "from app import create_app, db; print(db.metadata)"],
        cwd=ROOT,
        env={**os.environ, "TT_BOOTSTRAP_MODE": "migrate"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert listed.stdout.strip() == "MetaData()"
