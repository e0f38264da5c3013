"""Languages of users, taken from a column that never was.

Revision ID: 012_user_locales
Revises: 011_task_priorities
"""

import sqlalchemy as sa
from alembic import op

revision = "012_user_locales"
down_revision = "011_task_priorities"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("users", sa.Column("locale", sa.String(10), nullable=True))
    op.execute("UPDATE users SET locale = profile_language")


def downgrade():
    with op.batch_alter_table("users") as batch:
        batch.drop_column("locale")
