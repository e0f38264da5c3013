"""Start, stop, add, delete."""

import pytest
from sqlalchemy import func, select

from app import db
from app.models import TimeEntry, User

pytestmark = [pytest.mark.integration, pytest.mark.timer]


def entries_of(app, username):
    with app.app_context():
        user = User.by_username(username)
        return db.session.scalars(
            select(TimeEntry).where(TimeEntry.user_id == user.id).order_by(TimeEntry.id)
        ).all()


def test_a_timer_is_started_and_shown(app, as_user, make):
    project_id = make.project(name="relaunch")
    as_user.post("/timer/start", data={"project_id": project_id, "notes": "kickoff"})
    page = as_user.get("/").text
    assert "Running since" in page
    assert "relaunch" in page
    (entry,) = entries_of(app, "ute")
    assert (entry.notes, entry.source) == ("kickoff", "timer")


def test_a_timer_is_stopped(app, as_user, make):
    as_user.post("/timer/start", data={"project_id": make.project()})
    as_user.post("/timer/stop")
    (entry,) = entries_of(app, "ute")
    assert not entry.is_running
    assert entry.duration_seconds >= 0


def test_starting_again_stops_the_first(app, as_user, make):
    for project_id in (make.project(), make.project()):
        as_user.post("/timer/start", data={"project_id": project_id})
    first, second = entries_of(app, "ute")
    assert not first.is_running
    assert second.is_running


def test_stopping_nothing_says_so(as_user):
    page = as_user.post("/timer/stop", follow_redirects=True).text
    assert "No timer runs." in page


def test_a_closed_project_takes_no_timer(app, as_user, make):
    project_id = make.project(status="closed")
    answer = as_user.post("/timer/start", data={"project_id": project_id})
    assert answer.status_code == 422
    assert entries_of(app, "ute") == []


def test_an_entry_by_hand_is_counted(as_user, make):
    data = {
        "project_id": make.project(),
        "start_time": "2026-03-02T09:00",
        "end_time": "2026-03-02T10:45",
        "notes": "workshop",
    }
    page = as_user.post("/entries", data=data, follow_redirects=True).text
    assert "1:45" in page
    assert "workshop" in page


def test_an_entry_is_deleted(app, as_user, make):
    user_id = entries_user(app)
    entry_id = make.entry(user_id, make.project())
    as_user.post(f"/entries/{entry_id}/delete")
    assert entries_of(app, "ute") == []


def test_timers_of_two_users_do_not_touch(app, as_user, make):
    project_id = make.project()
    other = make.user("otto")
    with app.app_context():
        TimeEntry.start_timer(other, project_id)
        db.session.commit()
    as_user.post("/timer/start", data={"project_id": project_id})
    with app.app_context():
        running = select(func.count()).where(TimeEntry.end_time.is_(None))
        assert db.session.scalar(running) == 2


def entries_user(app):
    with app.app_context():
        return User.by_username("ute").id
