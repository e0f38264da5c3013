"""Numbering, tax and logo. The id is longer than Alembic's 32 characters on purpose.

Revision ID: 009_settings_invoice_numbering_tax_and_logo
Revises: 008_time_entry_rules
"""

import sqlalchemy as sa
from alembic import op

revision = "009_settings_invoice_numbering_tax_and_logo"
down_revision = "008_time_entry_rules"
branch_labels = None
depends_on = None


def upgrade():
    for column in (
        sa.Column("tax_rate", sa.Numeric(5, 2), server_default="0", nullable=False),
        sa.Column(
            "invoice_prefix", sa.String(20), server_default="INV", nullable=False
        ),
        sa.Column("logo_filename", sa.String(255), nullable=True),
    ):
        op.add_column("settings", column)
    op.add_column(
        "invoices",
        sa.Column("tax_rate", sa.Numeric(5, 2), server_default="0", nullable=False),
    )


def downgrade():
    with op.batch_alter_table("invoices") as batch:
        batch.drop_column("tax_rate")
    with op.batch_alter_table("settings") as batch:
        batch.drop_column("logo_filename")
        batch.drop_column("invoice_prefix")
        batch.drop_column("tax_rate")
