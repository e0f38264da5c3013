"""The models by themselves."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from app.models import ApiToken, Client, Invoice, InvoiceItem, Project, Role, Settings
from app.models import Task, TimeEntry, User
from app.models.user import load_user

pytestmark = [pytest.mark.unit, pytest.mark.models]
NINE = datetime(2026, 3, 2, 9)


def test_a_password_is_stored_as_a_hash(session):
    user = User(username="ute")
    user.set_password("correct horse")
    assert "correct horse" not in user.password_hash
    assert user.check_password("correct horse")
    assert not user.check_password("wrong horse")


def test_a_short_password_is_refused(session):
    with pytest.raises(ValueError, match="at least 8"):
        User(username="ute").set_password("short")


@pytest.mark.parametrize(
    ("role", "manager", "admin"),
    [(Role.USER, False, False), (Role.MANAGER, True, False), (Role.ADMIN, True, True)],
)
def test_a_role_includes_those_before_it(role, manager, admin):
    user = User(role=role.value)
    assert (user.is_manager, user.is_admin) == (manager, admin)


def test_a_deactivated_user_has_no_session(session, make):
    user = session.get(User, make.user("ute"))
    assert load_user(str(user.id)) is user
    user.is_active = False
    session.commit()
    assert load_user(str(user.id)) is None


def test_a_client_lists_its_active_projects(session):
    client = Client(name="Acme")
    client.projects = [
        Project(name="open", status="active"),
        Project(name="done", status="closed"),
    ]
    assert [project.name for project in client.active_projects] == ["open"]


def test_a_project_without_a_rate_takes_its_clients():
    client = Client(name="Acme", hourly_rate=Decimal("70"))
    assert Project(client=client).effective_rate == Decimal("70")
    assert Project(client=client, hourly_rate=Decimal("90")).effective_rate == 90


def test_a_project_counts_its_time_against_the_budget(session, make):
    project_id = make.project(budget_hours=Decimal("8"))
    make.entry(make.user(), project_id, hours=2)
    project = session.get(Project, project_id)
    assert project.tracked_seconds() == 7200
    assert project.budget_used_percent == 25


def test_a_task_refuses_an_unknown_status():
    task = Task(name="design", status="todo")
    task.move_to("in_progress")
    assert task.status == "in_progress"
    with pytest.raises(ValueError):
        task.move_to("forgotten")


def test_stopping_a_timer_counts_its_seconds():
    entry = TimeEntry(start_time=NINE)
    assert entry.is_running
    entry.stop(NINE + timedelta(minutes=90))
    assert (entry.is_running, entry.duration_seconds) == (False, 5400)


def test_a_timer_stops_once_and_never_before_its_start():
    with pytest.raises(ValueError, match="after its start"):
        TimeEntry(start_time=NINE).stop(NINE - timedelta(seconds=1))
    with pytest.raises(ValueError, match="stopped before"):
        TimeEntry(start_time=NINE, end_time=NINE).stop()


def test_an_invoice_adds_its_items_and_tax():
    invoice = Invoice(tax_rate=Decimal("22"), issue_date=date(2026, 3, 2))
    invoice.items = [
        InvoiceItem(quantity=Decimal("1.50"), unit_price=Decimal("80")),
        InvoiceItem(quantity=Decimal("0.33"), unit_price=Decimal("9.99")),
    ]
    assert invoice.subtotal == Decimal("123.30")
    assert invoice.tax_amount == Decimal("27.13")
    assert invoice.total == Decimal("150.43")


def test_settings_and_tokens_are_made_once(session, make):
    row, token = ApiToken.issue(make.user(), "laptop")
    assert Settings.get() is Settings.get()
    session.commit()
    assert token not in row.token_hash
    assert ApiToken.find(token) is row
    assert ApiToken.find(token + "x") is None
