"""Rules that hold whatever the code does."""

from datetime import datetime

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from app.models import Client, TimeEntry

pytestmark = [
    pytest.mark.database,
    pytest.mark.constraints,
    pytest.mark.models,
]


def test_an_entry_never_ends_before_its_start(session, make):
    statement = insert(TimeEntry).values(
        user_id=make.user(),
        project_id=make.project(),
        start_time=datetime(2026, 3, 2, 10),
        end_time=datetime(2026, 3, 2, 9),
    )
    with pytest.raises(IntegrityError, match="ends_later"):
        session.execute(statement)


def test_a_user_never_has_two_running_timers(session, make):
    start = datetime(2026, 3, 2, 10)
    row = {"user_id": make.user(), "project_id": make.project(), "start_time": start}
    session.execute(insert(TimeEntry).values(**row))
    with pytest.raises(IntegrityError):
        session.execute(insert(TimeEntry).values(**row))


def test_a_client_has_a_name_of_its_own(session, make):
    make.client("Acme")
    with pytest.raises(IntegrityError):
        session.execute(insert(Client).values(name="Acme"))
    session.rollback()
    with pytest.raises(IntegrityError):
        session.execute(insert(Client).values(name=None))
