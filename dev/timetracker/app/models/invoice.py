"""Invoices, made of the billable time of a project."""

from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Date, DateTime, ForeignKey, Numeric, String, Text, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import hours, round_up_seconds, utc_now
from app.extensions import db
from app.models.project import Project
from app.models.settings import Settings
from app.models.time_entry import TimeEntry
from app.money import tax, to_cents

PAYMENT_TERM = timedelta(days=30)
# From which status to which: a paid invoice never changes again.
TRANSITIONS = {
    "draft": {"sent"},
    "sent": {"paid", "overdue"},
    "overdue": {"paid"},
    "paid": set(),
}


class Invoice(db.Model):
    """A bill to a client."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id"), index=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"))
    created_by: Mapped[int | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL")
    )
    issue_date: Mapped[date] = mapped_column(Date)
    due_date: Mapped[date] = mapped_column(Date)
    status: Mapped[str] = mapped_column(
        String(20), default="draft", server_default="draft"
    )
    tax_rate: Mapped[Decimal] = mapped_column(
        Numeric(5, 2), default=Decimal("0"), server_default="0"
    )
    notes: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )

    client = relationship("Client", back_populates="invoices")
    project = relationship("Project")
    items = relationship(
        "InvoiceItem",
        back_populates="invoice",
        cascade="all, delete-orphan",
        order_by="InvoiceItem.id",
    )
    time_entries = relationship("TimeEntry", back_populates="invoice")

    @property
    def subtotal(self) -> Decimal:
        """The sum of the items, before tax."""
        return to_cents(sum((item.amount for item in self.items), Decimal("0")))

    @property
    def tax_amount(self) -> Decimal:
        """The tax on the subtotal."""
        return tax(self.subtotal, self.tax_rate)

    @property
    def total(self) -> Decimal:
        """What the client pays."""
        return self.subtotal + self.tax_amount

    def move_to(self, status: str) -> None:
        """Changes the status along TRANSITIONS; anything else is refused."""
        if status not in TRANSITIONS[self.status]:
            raise ValueError(f"an invoice that is {self.status} can't become {status}")
        self.status = status

    @classmethod
    def next_number(cls, prefix: str, year: int) -> str:
        """The number after the highest one of that year."""
        stem = f"{prefix}-{year}-"
        taken = db.session.scalars(
            select(cls.number).where(cls.number.startswith(stem, autoescape=True))
        )
        counters = [int(n[len(stem) :]) for n in taken if n[len(stem) :].isdigit()]
        return f"{stem}{max(counters, default=0) + 1:04d}"

    @classmethod
    def from_project(cls, project: Project, user_id: int) -> "Invoice":
        """An invoice over all billable time not yet billed, not yet committed."""
        entries = db.session.scalars(
            select(TimeEntry)
            .where(
                TimeEntry.project_id == project.id,
                TimeEntry.billable.is_(True),
                TimeEntry.invoice_id.is_(None),
                TimeEntry.end_time.is_not(None),
            )
            .order_by(TimeEntry.start_time)
        ).all()
        if not entries:
            raise ValueError("there is no billable time that was not billed before")
        settings = Settings.get()
        today = utc_now().date()
        invoice = cls(
            number=cls.next_number(settings.invoice_prefix, today.year),
            client_id=project.client_id,
            project_id=project.id,
            created_by=user_id,
            issue_date=today,
            due_date=today + PAYMENT_TERM,
            tax_rate=settings.tax_rate,
        )
        db.session.add(invoice)
        for entry in entries:
            billed = round_up_seconds(entry.duration_seconds, settings.rounding_minutes)
            invoice.items.append(
                InvoiceItem(
                    description=entry.notes or project.name,
                    quantity=hours(billed),
                    unit_price=project.effective_rate,
                )
            )
            invoice.time_entries.append(entry)
        return invoice


class InvoiceItem(db.Model):
    """One line of an invoice."""

    __tablename__ = "invoice_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[int] = mapped_column(
        ForeignKey("invoices.id", ondelete="CASCADE"), index=True
    )
    description: Mapped[str] = mapped_column(Text)
    quantity: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    unit_price: Mapped[Decimal] = mapped_column(Numeric(10, 2))

    invoice = relationship("Invoice", back_populates="items")

    @property
    def amount(self) -> Decimal:
        """Quantity times price, in cents."""
        return to_cents(self.quantity * self.unit_price)
