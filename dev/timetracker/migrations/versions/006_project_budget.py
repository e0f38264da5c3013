"""A budget of hours for projects.

Revision ID: 006_project_budget
Revises: 005_api_tokens
"""

import sqlalchemy as sa
from alembic import op

revision = "006_project_budget"
down_revision = "005_api_tokens"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column(
        "projects", sa.Column("budget_hours", sa.Numeric(10, 2), nullable=True)
    )


def downgrade():
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("budget_hours")
