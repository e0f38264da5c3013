"""Text never becomes SQL."""

import pytest
from sqlalchemy import func, select

from app import db
from app.models import Client, User

pytestmark = [pytest.mark.security, pytest.mark.sqli]
DROP = "x'; DROP TABLE clients; --"
ALWAYS = "' OR '1'='1"


def test_a_name_that_is_always_true_logs_nobody_in(client, make):
    make.user("ute")
    answer = client.post("/login", data={"username": ALWAYS, "password": ALWAYS})
    assert answer.status_code == 401


def test_a_search_finds_no_more_than_its_words(as_user, make):
    make.client("Acme")
    for word in (ALWAYS, DROP, "%", "_"):
        page = as_user.get("/clients", query_string={"q": word}).text
        assert "Acme" not in page


def test_a_name_with_sql_is_stored_as_it_is(app, as_manager):
    as_manager.post("/clients", data={"name": DROP})
    with app.app_context():
        assert db.session.scalars(select(Client.name)).all() == [DROP]


def test_identifiers_in_paths_and_bodies_are_numbers(as_user, make):
    assert as_user.get("/projects/1%20OR%201=1").status_code == 404
    make.project()
    answer = as_user.post("/api/v1/timer/start", json={"project_id": "1 OR 1=1"})
    assert answer.status_code == 422


def test_a_token_with_sql_is_nobody(app, client, make):
    make.token(make.user())
    headers = {"Authorization": f"Bearer {ALWAYS}"}
    assert client.get("/api/v1/me", headers=headers).status_code == 401
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(User)) == 1
