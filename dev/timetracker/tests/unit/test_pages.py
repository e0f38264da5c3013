"""Single pages: what they show, what they refuse."""

import pytest

pytestmark = [pytest.mark.unit, pytest.mark.routes]


def test_ready_is_503_when_the_database_is_gone(app, client, monkeypatch):
    from sqlalchemy.exc import OperationalError

    from app import db

    def gone(*_args, **_kwargs):
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    monkeypatch.setattr(db.session, "execute", gone)
    answer = client.get("/_ready")
    assert answer.status_code == 503
    assert answer.json == {"status": "not_ready", "error": "db_unreachable"}
    assert client.get("/_health").status_code == 200


def test_the_start_page_asks_strangers_to_log_in(client):
    page = client.get("/").text
    assert "Log in" in page
    assert "Hello" not in page


def test_the_register_page_can_be_switched_off(app, client):
    assert client.get("/register").status_code == 200
    app.config["ALLOW_SELF_REGISTER"] = False
    assert client.get("/register").status_code == 404


def test_the_clients_page_lists_clients(as_user, make):
    make.client("Acme")
    assert "Acme" in as_user.get("/clients").text


def test_the_clients_page_searches(as_user, make):
    make.client("Acme")
    make.client("Globex")
    page = as_user.get("/clients?q=glob").text
    assert "Globex" in page
    assert "Acme" not in page


def test_a_client_needs_a_name(as_manager):
    answer = as_manager.post("/clients", data={"name": ""})
    assert answer.status_code == 422
    assert "required" in answer.text


def test_the_project_page_shows_tasks_and_budget(as_user, make):
    project_id = make.project(budget_hours=10)
    make.task(project_id, "wireframes")
    page = as_user.get(f"/projects/{project_id}").text
    assert "wireframes" in page
    assert "0 % of the budget" in page


def test_a_project_that_does_not_exist_is_404(as_user):
    assert as_user.get("/projects/4711").status_code == 404


def test_an_entry_that_ends_before_its_start_is_refused(as_user, make):
    answer = as_user.post(
        "/entries",
        data={
            "project_id": make.project(),
            "start_time": "2026-03-02T10:00",
            "end_time": "2026-03-02T09:00",
        },
    )
    assert answer.status_code == 422
    assert "ends after its start" in answer.text


def test_the_invoices_page_shows_totals(as_manager, make):
    project_id = make.billed_project(make.user())
    as_manager.post(f"/invoices/from-project/{project_id}")
    assert "240.00 EUR" in as_manager.get("/invoices").text


def test_the_settings_page_refuses_a_wrong_currency(as_admin):
    answer = as_admin.post("/settings", data={"currency": "euro"})
    assert answer.status_code == 422
    assert "Invalid input" in answer.text


def test_the_users_page_names_roles(as_admin, make):
    make.user("mara", role="manager")
    page = as_admin.get("/settings/users").text
    assert "mara: manager" in page
    assert "ada: admin" in page
