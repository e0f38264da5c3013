"""Foreign sites send no forms in a user's name."""

import re

import pytest
from sqlalchemy import func, select

from app import db
from app.models import Client, TimeEntry

pytestmark = [pytest.mark.security, pytest.mark.csrf]


@pytest.fixture
def manager(app, as_manager):
    app.config["WTF_CSRF_ENABLED"] = True
    return as_manager


def count(app, model):
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(model))


def test_a_form_without_a_token_is_refused(app, manager):
    assert manager.post("/clients", data={"name": "Acme"}).status_code == 400
    assert count(app, Client) == 0


def test_a_form_with_the_token_of_its_page_is_accepted(app, manager):
    page = manager.get("/clients").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page).group(1)
    data = {"name": "Acme", "csrf_token": token}
    assert manager.post("/clients", data=data).status_code == 302
    assert count(app, Client) == 1


def test_a_session_writes_through_the_api_only_with_the_header(app, manager, make):
    body = {"project_id": make.project()}
    assert manager.post("/api/v1/timer/start", json=body).status_code == 400
    page = manager.get("/clients").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page).group(1)
    headers = {"X-CSRFToken": token}
    answer = manager.post("/api/v1/timer/start", json=body, headers=headers)
    assert answer.status_code == 201
    assert count(app, TimeEntry) == 1


def test_nobody_is_logged_out_by_a_link(manager):
    assert manager.get("/logout").status_code == 405
    assert manager.post("/logout").status_code == 400
    assert "Hello mara" in manager.get("/").text
