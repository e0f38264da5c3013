"""Roles instead of an admin flag; existing rows are converted.

Revision ID: 007_user_roles
Revises: 006_project_budget
"""

import sqlalchemy as sa
from alembic import op

revision = "007_user_roles"
down_revision = "006_project_budget"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column(
        "users",
        sa.Column("role", sa.String(20), server_default="user", nullable=False),
    )
    users = sa.table("users", sa.column("role"), sa.column("is_admin", sa.Boolean()))
    op.execute(users.update().where(users.c.is_admin.is_(True)).values(role="admin"))
    with op.batch_alter_table("users") as batch:
        batch.drop_column("is_admin")


def downgrade():
    op.add_column(
        "users",
        sa.Column("is_admin", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    users = sa.table("users", sa.column("role"), sa.column("is_admin", sa.Boolean()))
    op.execute(users.update().where(users.c.role == "admin").values(is_admin=True))
    with op.batch_alter_table("users") as batch:
        batch.drop_column("role")
