"""Priorities of tasks.

Revision ID: 011_task_priorities
Revises: 010_vat_numbers_and_holidays
"""

import sqlalchemy as sa
from alembic import op

revision = "011_task_priorities"
down_revision = "010_vat_numbers_and_holidays"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("tasks", sa.Column("priority", sa.String(20), nullable=True))


def downgrade():
    with op.batch_alter_table("tasks") as batch:
        batch.drop_column("priority")
