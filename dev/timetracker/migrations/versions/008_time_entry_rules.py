"""An entry ends after its start; one running timer per user; indexes.

Revision ID: 008_time_entry_rules
Revises: 007_user_roles
"""

import sqlalchemy as sa
from alembic import op

revision = "008_time_entry_rules"
down_revision = "007_user_roles"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("time_entries") as batch:
        batch.create_check_constraint(
            op.f("ck_time_entries_ends_later"),
            "end_time IS NULL OR end_time >= start_time",
        )
    for column in ("user_id", "project_id", "start_time"):
        op.create_index(op.f(f"ix_time_entries_{column}"), "time_entries", [column])
    op.create_index(
        "uq_time_entries_running",
        "time_entries",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("end_time IS NULL"),
        sqlite_where=sa.text("end_time IS NULL"),
    )


def downgrade():
    op.drop_index("uq_time_entries_running", table_name="time_entries")
    for column in ("start_time", "project_id", "user_id"):
        op.drop_index(op.f(f"ix_time_entries_{column}"), table_name="time_entries")
    with op.batch_alter_table("time_entries") as batch:
        batch.drop_constraint(op.f("ck_time_entries_ends_later"), type_="check")
