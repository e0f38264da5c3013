"""Clients, projects, tasks."""

import pytest
from sqlalchemy import select

from app import db
from app.models import Client, Project, Task

pytestmark = [pytest.mark.integration, pytest.mark.projects]


def one(app, model):
    with app.app_context():
        return db.session.scalars(select(model)).one()


def test_a_manager_adds_a_client(app, as_manager):
    data = {"name": "Acme", "email": "office@acme.test", "hourly_rate": "75.50"}
    as_manager.post("/clients", data=data)
    client = one(app, Client)
    assert (client.name, str(client.hourly_rate)) == ("Acme", "75.50")
    assert client.address is None


def test_a_client_is_renamed(app, as_manager, make):
    client_id = make.client("Acme")
    as_manager.post(f"/clients/{client_id}", data={"name": "Acme Ltd"})
    assert one(app, Client).name == "Acme Ltd"


def test_two_clients_never_share_a_name(app, as_manager, make):
    make.client("Acme")
    answer = as_manager.post("/clients", data={"name": "Acme"})
    assert answer.status_code == 409
    assert one(app, Client).name == "Acme"


def test_an_archived_client_is_not_offered_for_new_projects(as_manager, make):
    client_id = make.client("Acme")
    assert f'<option value="{client_id}">' in as_manager.get("/projects").text
    as_manager.post(f"/clients/{client_id}/archive")
    assert f'<option value="{client_id}">' not in as_manager.get("/projects").text


def test_a_manager_adds_a_project(app, as_manager, make):
    data = {"client_id": make.client("Acme"), "name": "relaunch", "billable": "y"}
    page = as_manager.post("/projects", data=data, follow_redirects=True).text
    assert "relaunch" in page
    project = one(app, Project)
    assert project.is_active
    assert project.billable


def test_a_closed_project_is_not_offered_for_time(as_manager, make):
    project_id = make.project(name="relaunch")
    assert "relaunch" in as_manager.get("/entries").text
    as_manager.post(f"/projects/{project_id}/close")
    assert "relaunch" not in as_manager.get("/entries").text


def test_a_task_goes_from_open_to_done(app, as_user, make):
    project_id = make.project()
    data = {"name": "wireframes", "status": "todo"}
    as_user.post(f"/projects/{project_id}/tasks", data=data)
    task = one(app, Task)
    assert task.status == "todo"
    assert as_user.post(f"/tasks/{task.id}/forgotten").status_code == 404
    as_user.post(f"/tasks/{task.id}/done")
    assert one(app, Task).status == "done"
