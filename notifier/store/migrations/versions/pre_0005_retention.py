"""records are kept for as long as a service wants them, and found by their age"""

from alembic import op
import sqlalchemy as sa

revision = 'pre_0005'
down_revision = 'pre_0004'


def upgrade() -> None:
    # Not in the migration's transaction: it would lock the table against every write for as long as it takes.
    with op.get_context().autocommit_block():
        # What an attempt that was broken off has left is made anew.
        op.drop_index('idempotency_age', 'idempotency', postgresql_concurrently=True, if_exists=True)
        op.create_index('idempotency_age', 'idempotency', ['service_id', 'created_at'], unique=False, postgresql_concurrently=True)
    op.add_column('services', sa.Column('retention_days', sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column('services', 'retention_days')
    op.drop_index('idempotency_age', table_name='idempotency')
