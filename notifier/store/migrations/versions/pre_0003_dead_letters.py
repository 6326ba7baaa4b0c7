"""dead letters are found without reading what went well"""

from alembic import op
import sqlalchemy as sa

revision = 'pre_0003'
down_revision = 'pre_0002'


def upgrade() -> None:
    # Not in the migration's transaction: it would lock the table against every write for as long as it takes.
    with op.get_context().autocommit_block():
        # What an attempt that was broken off has left is made anew.
        op.drop_index('deliveries_failed', 'deliveries', postgresql_concurrently=True, if_exists=True)
        op.create_index('deliveries_failed', 'deliveries', ['service_id', 'id'], unique=False,
                        postgresql_where=sa.text("status = 'failed'"), postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index('deliveries_failed', table_name='deliveries')
