"""Calculations with money: always Decimal, rounded half up to cents."""

from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


def to_cents(amount: Decimal) -> Decimal:
    """Rounds to two decimals."""
    return Decimal(amount).quantize(CENT, rounding=ROUND_HALF_UP)


def tax(net: Decimal, rate_percent: Decimal) -> Decimal:
    """The tax on a net amount at a rate in percent."""
    return to_cents(Decimal(net) * Decimal(rate_percent) / 100)


def format_money(amount: Decimal, currency: str = "") -> str:
    """``1,234.50 EUR``."""
    text = f"{to_cents(amount):,.2f}"
    return f"{text} {currency}" if currency else text
