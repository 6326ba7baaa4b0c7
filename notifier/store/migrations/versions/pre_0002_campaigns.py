"""campaigns"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = 'pre_0002'
down_revision = 'pre_0001'

COUNTED = ('sent', 'delivered', 'bounced', 'complained', 'unknown', 'expired', 'cancelled', 'suppressed', 'failed')


def upgrade() -> None:
    op.create_table('campaigns',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('parent_id', sa.Uuid(), nullable=True),
    sa.Column('run_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('template', sa.Text(), nullable=False),
    sa.Column('template_version', sa.Text(), nullable=False),
    sa.Column('data', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('plan', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('status_reason', sa.Text(), nullable=True),
    sa.Column('position', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('bound', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('expected', sa.BigInteger(), nullable=True),
    sa.Column('chunks', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('slot', sa.DateTime(timezone=True), nullable=False),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('open_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('limited_by', sa.Text(), nullable=True),
    sa.Column('watch_from', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('source_failures', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('walked_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("mode IN ('live', 'test')", name=op.f('campaigns_mode')),
    sa.CheckConstraint("status IN ('scheduled', 'running', 'paused', 'finished', 'cancelled', 'failed', 'expired')", name=op.f('campaigns_status')),
    sa.CheckConstraint("limited_by IN ('pace', 'workers', 'window', 'audience')", name=op.f('campaigns_limited_by')),
    sa.PrimaryKeyConstraint('id', name=op.f('campaigns_pkey'))
    )
    op.create_index('campaigns_due', 'campaigns', ['due_at'], unique=False, postgresql_where=sa.text('due_at IS NOT NULL'))
    op.create_index('campaigns_service', 'campaigns', ['service_id', 'id'], unique=False)
    op.create_index('campaigns_run', 'campaigns', ['parent_id', 'run_at'], unique=True, postgresql_where=sa.text('parent_id IS NOT NULL'))
    op.create_table('campaign_chunks',
    sa.Column('campaign_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('range', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('recipients', sa.Integer(), nullable=False),
    sa.Column('planned', sa.Integer(), nullable=False),
    *(sa.Column(word, sa.Integer(), server_default=sa.text('0'), nullable=False) for word in COUNTED),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('is_open', sa.Boolean(), sa.Computed(f"planned > {' + '.join(COUNTED)}", persisted=True), nullable=False),
    sa.PrimaryKeyConstraint('campaign_id', 'number', name=op.f('campaign_chunks_pkey'))
    )
    op.create_index('campaign_chunks_open', 'campaign_chunks', ['campaign_id'], unique=False, postgresql_where=sa.text('is_open'))
    # A chunk's counters are written many times, and stay on their page.
    op.execute("ALTER TABLE campaign_chunks SET (fillfactor = 50)")
    op.add_column('deliveries', sa.Column('campaign_id', sa.Uuid(), nullable=True))
    op.add_column('deliveries', sa.Column('chunk', sa.Integer(), nullable=True))
    op.add_column('deliveries', sa.Column('address', postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.alter_column('deliveries', 'notification_id', nullable=True)
    op.execute("ALTER TABLE deliveries ADD CONSTRAINT deliveries_owner CHECK ((notification_id IS NULL) <> (campaign_id IS NULL)) NOT VALID")
    with op.get_context().autocommit_block():  # intake goes on meanwhile
        op.execute("ALTER TABLE deliveries VALIDATE CONSTRAINT deliveries_owner")
        # What an attempt that was broken off has left is made anew.
        for name in ('deliveries_campaign', 'deliveries_of_notification'):
            op.drop_index(name, 'deliveries', postgresql_concurrently=True, if_exists=True)
        op.create_index('deliveries_campaign', 'deliveries', ['campaign_id', 'recipient_id', 'channel'], unique=True, postgresql_where=sa.text('campaign_id IS NOT NULL'), postgresql_concurrently=True)
        op.create_index('deliveries_of_notification', 'deliveries', ['notification_id'], unique=False, postgresql_where=sa.text('notification_id IS NOT NULL'), postgresql_concurrently=True)
        op.drop_index('deliveries_notification', 'deliveries', postgresql_concurrently=True, if_exists=True)
