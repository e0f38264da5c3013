"""What one may do."""

import pytest

from app import db
from app.models import TimeEntry, User

pytestmark = [pytest.mark.security, pytest.mark.authorization]


def test_a_user_changes_no_clients_projects_or_invoices(as_user, make):
    project_id = make.project()
    for path in ("/clients", "/projects", f"/invoices/from-project/{project_id}"):
        assert as_user.post(path, data={"name": "x"}).status_code == 403


def test_a_manager_changes_no_settings_and_no_roles(as_manager, make):
    user_id = make.user()
    assert as_manager.get("/settings").status_code == 403
    answer = as_manager.post(f"/settings/users/{user_id}/role", data={"role": "admin"})
    assert answer.status_code == 403


def test_nobody_deletes_the_time_of_others(app, as_user, make):
    entry_id = make.entry(make.user(), make.project())
    assert as_user.post(f"/entries/{entry_id}/delete").status_code == 404
    with app.app_context():
        assert db.session.get(TimeEntry, entry_id) is not None


def test_nobody_sees_the_time_of_others_through_the_api(as_user, make):
    make.entry(make.user(), make.project())
    assert as_user.get("/api/v1/time-entries").json["items"] == []


def test_nobody_makes_themselves_admin(app, as_admin, client):
    form = {"username": "eve", "password": "long enough", "role": "admin"}
    app.test_client().post("/register", data=form)
    with app.app_context():
        assert User.by_username("eve").role == "user"
        own_id = User.by_username("ada").id
    answer = as_admin.post(f"/settings/users/{own_id}/role", data={"role": "user"})
    assert answer.status_code == 409


def test_the_token_of_a_user_creates_no_client(client, make):
    headers = {"Authorization": f"Bearer {make.token(make.user())}"}
    answer = client.post("/api/v1/clients", json={"name": "Acme"}, headers=headers)
    assert answer.status_code == 403
