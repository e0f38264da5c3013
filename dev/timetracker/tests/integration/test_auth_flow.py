"""From registration to logout."""

import pytest

from app import db
from app.models import User

pytestmark = [pytest.mark.integration, pytest.mark.auth]
NEW = {"username": "nina", "password": "correct horse battery"}


def test_who_registers_is_logged_in(client):
    answer = client.post("/register", data=NEW, follow_redirects=True)
    assert "Hello nina" in answer.text


def test_a_name_in_admin_usernames_becomes_admin(app, client):
    app.config["ADMIN_USERNAMES"] = frozenset({"nina"})
    client.post("/register", data=NEW)
    assert client.get("/settings").status_code == 200


def test_a_name_can_be_taken_only_once_whatever_its_case(client, make):
    make.user("Nina")
    answer = client.post("/register", data=NEW)
    assert answer.status_code == 409
    assert "taken" in answer.text


def test_logging_in_writes_down_when(app, as_user):
    with app.app_context():
        assert User.by_username("UTE").last_login is not None


def test_logging_out_ends_the_session(as_user):
    assert "Hello ute" in as_user.get("/").text
    as_user.post("/logout")
    assert "Hello" not in as_user.get("/").text
    assert as_user.get("/projects").status_code == 302


def test_login_leads_back_to_the_page_that_was_asked_for(client, make):
    make.user("ute")
    asked = client.get("/projects")
    assert asked.location == "/login?next=%2Fprojects"
    data = {"username": "ute", "password": "correct horse battery"}
    assert client.post(asked.location, data=data).location == "/projects"


def test_a_new_role_counts_from_the_next_request(app, as_user, make):
    assert as_user.get("/invoices").status_code == 403
    with app.app_context():
        User.by_username("ute").role = "manager"
        db.session.commit()
    assert as_user.get("/invoices").status_code == 200
