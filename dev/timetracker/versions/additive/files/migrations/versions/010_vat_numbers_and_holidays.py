"""VAT numbers of clients, and holidays.

Revision ID: 010_vat_numbers_and_holidays
Revises: 009_settings_invoice_numbering_tax_and_logo
"""

import sqlalchemy as sa
from alembic import op

revision = "010_vat_numbers_and_holidays"
down_revision = "009_settings_invoice_numbering_tax_and_logo"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("clients", sa.Column("vat_number", sa.String(40), nullable=True))
    op.create_table(
        "holidays",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holidays")),
        sa.UniqueConstraint("day", name=op.f("uq_holidays_day")),
    )


def downgrade():
    op.drop_table("holidays")
    with op.batch_alter_table("clients") as batch:
        batch.drop_column("vat_number")
