"""Clients: for whom work is done."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Boolean, DateTime, Numeric, String, Text, false, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import utc_now
from app.extensions import db


class Client(db.Model):
    """A customer with projects and invoices."""

    __tablename__ = "clients"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    email: Mapped[str | None] = mapped_column(String(200))
    contact: Mapped[str | None] = mapped_column(String(200))
    address: Mapped[str | None] = mapped_column(Text)
    hourly_rate: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    is_archived: Mapped[bool] = mapped_column(
        Boolean, default=False, server_default=false()
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )

    projects = relationship("Project", back_populates="client", order_by="Project.name")
    invoices = relationship("Invoice", back_populates="client")

    @property
    def active_projects(self) -> list:
        """The projects on which time can be tracked."""
        return [project for project in self.projects if project.is_active]
