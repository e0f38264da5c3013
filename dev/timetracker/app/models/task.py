"""Tasks: the parts of a project."""

from datetime import datetime
from enum import Enum

from sqlalchemy import DateTime, ForeignKey, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import utc_now
from app.extensions import db


class TaskStatus(str, Enum):
    """The order in which a task moves on."""

    TODO = "todo"
    IN_PROGRESS = "in_progress"
    DONE = "done"


class Task(db.Model):
    """Something to do in a project."""

    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    assignee_id: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL")
    )
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(
        String(20),
        default=TaskStatus.TODO.value,
        server_default=TaskStatus.TODO.value,
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )

    project = relationship("Project", back_populates="tasks")
    assignee = relationship("User")

    def move_to(self, status: str) -> None:
        """Changes the status; an unknown one is refused."""
        self.status = TaskStatus(status).value
