"""The settings of the whole installation: one row."""

from decimal import Decimal

from flask import current_app
from sqlalchemy import Integer, Numeric, String, select
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import db


class Settings(db.Model):
    """Company, currency, rounding and invoicing."""

    __tablename__ = "settings"

    id: Mapped[int] = mapped_column(primary_key=True)
    company_name: Mapped[str] = mapped_column(String(200))
    currency: Mapped[str] = mapped_column(String(3))
    timezone: Mapped[str] = mapped_column(String(50))
    rounding_minutes: Mapped[int] = mapped_column(
        Integer, default=1, server_default="1"
    )
    tax_rate: Mapped[Decimal] = mapped_column(
        Numeric(5, 2), default=Decimal("0"), server_default="0"
    )
    invoice_prefix: Mapped[str] = mapped_column(
        String(20), default="INV", server_default="INV"
    )
    logo_filename: Mapped[str | None] = mapped_column(String(255))

    @classmethod
    def get(cls) -> "Settings":
        """The row; created from the configuration when it is missing."""
        settings = db.session.scalar(select(cls).order_by(cls.id).limit(1))
        if settings is None:
            settings = cls(
                company_name="My company",
                currency=current_app.config["CURRENCY"],
                timezone=current_app.config["TIMEZONE"],
                rounding_minutes=1,
                tax_rate=Decimal("0"),
                invoice_prefix="INV",
            )
            db.session.add(settings)
            db.session.flush()
        return settings
