"""Time entries; the one without an end is the user's running timer."""

from datetime import datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    func,
    select,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import utc_now
from app.extensions import db


class TimeEntry(db.Model):
    """A stretch of time that a user spent on a project."""

    __tablename__ = "time_entries"
    __table_args__ = (
        CheckConstraint("end_time IS NULL OR end_time >= start_time", "ends_later"),
        # At most one running timer per user, whatever two requests do at once.
        Index(
            "uq_time_entries_running",
            "user_id",
            unique=True,
            postgresql_where=text("end_time IS NULL"),
            sqlite_where=text("end_time IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    task_id: Mapped[int | None] = mapped_column(
        ForeignKey("tasks.id", ondelete="SET NULL")
    )
    invoice_id: Mapped[int | None] = mapped_column(
        ForeignKey("invoices.id", ondelete="SET NULL")
    )
    start_time: Mapped[datetime] = mapped_column(DateTime, index=True)
    end_time: Mapped[datetime | None] = mapped_column(DateTime)
    duration_seconds: Mapped[int | None] = mapped_column(Integer)
    notes: Mapped[str | None] = mapped_column(Text)
    billable: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())
    source: Mapped[str] = mapped_column(
        String(20), default="manual", server_default="manual"
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )

    user = relationship("User", back_populates="time_entries")
    project = relationship("Project", back_populates="time_entries")
    task = relationship("Task")
    invoice = relationship("Invoice", back_populates="time_entries")

    @property
    def is_running(self) -> bool:
        """Whether this is a timer that was not stopped."""
        return self.end_time is None

    def stop(self, at: datetime | None = None) -> None:
        """Ends the entry and counts its time."""
        if not self.is_running:
            raise ValueError("this timer was stopped before")
        end = at or utc_now()
        if end < self.start_time:
            raise ValueError("an entry ends after its start")
        self.end_time = end
        self.duration_seconds = int((end - self.start_time).total_seconds())

    @classmethod
    def running_for(cls, user_id: int) -> "TimeEntry | None":
        """The user's running timer."""
        return db.session.scalar(
            select(cls).where(cls.user_id == user_id, cls.end_time.is_(None))
        )

    @classmethod
    def start_timer(
        cls, user_id: int, project_id: int, task_id: int | None = None, notes: str = ""
    ) -> "TimeEntry":
        """A new running timer, not yet committed; the one that runs is stopped."""
        running = cls.running_for(user_id)
        if running is not None:
            running.stop()
            db.session.flush()
        entry = cls(
            user_id=user_id,
            project_id=project_id,
            task_id=task_id,
            notes=notes or None,
            start_time=utc_now(),
            source="timer",
        )
        db.session.add(entry)
        return entry
