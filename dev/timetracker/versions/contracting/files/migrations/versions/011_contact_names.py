"""Contacts are names; the legacy codes of projects go.

Revision ID: 011_contact_names
Revises: 010_vat_numbers_and_holidays
"""

import sqlalchemy as sa
from alembic import op

revision = "011_contact_names"
down_revision = "010_vat_numbers_and_holidays"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("clients") as batch:
        batch.alter_column("contact", new_column_name="contact_name")
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("legacy_code")


def downgrade():
    op.add_column("projects", sa.Column("legacy_code", sa.String(40), nullable=True))
    with op.batch_alter_table("clients") as batch:
        batch.alter_column("contact_name", new_column_name="contact")
