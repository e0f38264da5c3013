"""Projects: what time is tracked on."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    Boolean,
    DateTime,
    ForeignKey,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    func,
    select,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import hours, utc_now
from app.extensions import db
from app.models.time_entry import TimeEntry


class Project(db.Model):
    """A client's project with its own rate and budget."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("client_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    legacy_code: Mapped[str | None] = mapped_column(String(40))
    billable: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())
    hourly_rate: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    budget_hours: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    status: Mapped[str] = mapped_column(
        String(20), default="active", server_default="active"
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )

    client = relationship("Client", back_populates="projects")
    tasks = relationship("Task", back_populates="project", cascade="all, delete-orphan")
    time_entries = relationship("TimeEntry", back_populates="project")

    @property
    def is_active(self) -> bool:
        """Whether time can be tracked on it."""
        return self.status == "active"

    @property
    def effective_rate(self) -> Decimal:
        """Its own rate, else its client's, else nothing."""
        if self.hourly_rate is not None:
            return self.hourly_rate
        return self.client.hourly_rate or Decimal("0")

    def tracked_seconds(self) -> int:
        """The time of all stopped entries."""
        return db.session.scalar(
            select(func.coalesce(func.sum(TimeEntry.duration_seconds), 0)).where(
                TimeEntry.project_id == self.id
            )
        )

    @property
    def budget_used_percent(self) -> int | None:
        """How much of the budget is used; none without a budget."""
        if not self.budget_hours:
            return None
        return int(hours(self.tracked_seconds()) * 100 / self.budget_hours)
