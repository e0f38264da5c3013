"""Foreign keys, enforced by the database itself."""

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from app.models import ApiToken, Client, Project, Task, TimeEntry, User

pytestmark = [
    pytest.mark.database,
    pytest.mark.relationships,
    pytest.mark.models,
]


def test_a_deleted_user_takes_time_and_tokens_along(session, make):
    user_id = make.user()
    make.entry(user_id, make.project())
    make.token(user_id)
    session.execute(delete(User).where(User.id == user_id))
    session.commit()
    for model in (TimeEntry, ApiToken):
        assert session.scalar(select(func.count()).select_from(model)) == 0


def test_a_client_with_projects_is_not_deleted(session, make):
    client_id = make.client()
    make.project(client_id)
    with pytest.raises(IntegrityError):
        session.execute(delete(Client).where(Client.id == client_id))
    session.rollback()
    assert session.get(Client, client_id) is not None


def test_a_deleted_task_leaves_its_time(session, make):
    project_id = make.project()
    task_id = make.task(project_id)
    entry_id = make.entry(make.user(), project_id, task_id=task_id)
    session.execute(delete(Task).where(Task.id == task_id))
    session.commit()
    assert session.get(TimeEntry, entry_id).task_id is None
    assert session.get(Project, project_id).tasks == []
