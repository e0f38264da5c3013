"""Every project has a billing code.

Revision ID: 012_billing_codes
Revises: 011_contact_names
"""

import sqlalchemy as sa
from alembic import op

revision = "012_billing_codes"
down_revision = "011_contact_names"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("projects", sa.Column("billing_code", sa.String(40), nullable=True))
    op.execute("UPDATE projects SET billing_code = 'P-' || CAST(id AS VARCHAR(12))")
    with op.batch_alter_table("projects") as batch:
        batch.alter_column("billing_code", existing_type=sa.String(40), nullable=False)


def downgrade():
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("billing_code")
