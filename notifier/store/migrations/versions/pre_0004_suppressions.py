"""suppressions"""

from alembic import op
import sqlalchemy as sa

revision = 'pre_0004'
down_revision = 'pre_0003'


def upgrade() -> None:
    op.create_table('suppressions',
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('hash', sa.LargeBinary(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("channel IN ('email', 'push', 'desktop')", name=op.f('suppressions_channel')),
    sa.PrimaryKeyConstraint('service_id', 'channel', 'hash', name=op.f('suppressions_pkey'))
    )


def downgrade() -> None:
    op.drop_table('suppressions')
