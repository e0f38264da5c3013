"""Phone numbers of users.

Revision ID: 011_user_phones
Revises: 010_vat_numbers_and_holidays
"""

import sqlalchemy as sa
from alembic import op

revision = "011_user_phones"
down_revision = "010_vat_numbers_and_holidays"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("users", sa.Column("phone", sa.String(40), nullable=True))


def downgrade():
    with op.batch_alter_table("users") as batch:
        batch.drop_column("phone")
