"""the first tables"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = 'pre_0001'
down_revision = None


def upgrade() -> None:
    op.create_table('deliveries',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('notification_id', sa.Uuid(), nullable=False),
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('recipient_id', sa.BigInteger(), nullable=True),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('priority', sa.Text(), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('attempt', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('max_attempts', sa.SmallInteger(), nullable=False),
    sa.Column('unknowns', sa.SmallInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('fence', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('on_unknown', sa.Text(), nullable=False),
    sa.Column('settled', sa.ARRAY(sa.Text()), nullable=True),
    sa.Column('provider', sa.Text(), nullable=True),
    sa.Column('provider_message_id', sa.Text(), nullable=True),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('claimed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('called_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("channel IN ('email', 'push', 'desktop')", name=op.f('deliveries_channel')),
    sa.CheckConstraint("mode IN ('live', 'test')", name=op.f('deliveries_mode')),
    sa.CheckConstraint("on_unknown IN ('retry', 'hold')", name=op.f('deliveries_on_unknown')),
    sa.CheckConstraint("priority IN ('urgent', 'bulk')", name=op.f('deliveries_priority')),
    sa.CheckConstraint("status IN ('scheduled', 'queued', 'sending', 'retrying', 'sent', 'delivered', 'bounced', 'complained', 'unknown', 'expired', 'cancelled', 'suppressed', 'failed')", name=op.f('deliveries_status')),
    sa.PrimaryKeyConstraint('id', name=op.f('deliveries_pkey'))
    )
    op.create_index('deliveries_due', 'deliveries', ['priority', 'channel', 'due_at'], unique=False, postgresql_where=sa.text('due_at IS NOT NULL'))
    op.create_index('deliveries_notification', 'deliveries', ['notification_id'], unique=False)
    op.create_table('delivery_events',
    sa.Column('delivery_id', sa.BigInteger(), nullable=False),
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('clock_timestamp()'), nullable=False),
    sa.Column('status_from', sa.Text(), nullable=False),
    sa.Column('status_to', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('attempt', sa.SmallInteger(), nullable=False),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.PrimaryKeyConstraint('delivery_id', 'id', name=op.f('delivery_events_pkey'))
    )
    op.create_table('idempotency',
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('route', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('fingerprint', sa.LargeBinary(), nullable=False),
    sa.Column('response', sa.JSON(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('service_id', 'route', 'key', name=op.f('idempotency_pkey'))
    )
    op.create_table('notifications',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('template', sa.Text(), nullable=False),
    sa.Column('template_version', sa.Text(), nullable=False),
    sa.Column('priority', sa.Text(), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('recipient_id', sa.BigInteger(), nullable=True),
    sa.Column('address', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('data', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('reference', sa.Text(), nullable=True),
    sa.Column('collapse_key', sa.Text(), nullable=True),
    sa.Column('send_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("mode IN ('live', 'test')", name=op.f('notifications_mode')),
    sa.CheckConstraint("priority IN ('urgent', 'bulk')", name=op.f('notifications_priority')),
    sa.PrimaryKeyConstraint('id', name=op.f('notifications_pkey'))
    )
    op.create_index('notifications_recipient', 'notifications', ['service_id', 'recipient_id', 'id'], unique=False, postgresql_where=sa.text('recipient_id IS NOT NULL'))
    op.create_index('notifications_reference', 'notifications', ['service_id', 'reference', 'id'], unique=False, postgresql_where=sa.text('reference IS NOT NULL'))
    op.create_index('notifications_service', 'notifications', ['service_id', 'id'], unique=False)
    op.create_table('recipients',
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('email', sa.Text(), nullable=True),
    sa.Column('locale', sa.Text(), nullable=True),
    sa.Column('timezone', sa.Text(), nullable=True),
    sa.Column('attributes', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('service_id', 'id', name=op.f('recipients_pkey'))
    )
    op.create_table('services',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('services_pkey')),
    sa.UniqueConstraint('name')
    )
    op.create_table('api_keys',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('hash', sa.LargeBinary(), nullable=False),
    sa.Column('scopes', sa.ARRAY(sa.Text()), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("mode IN ('live', 'test')", name=op.f('api_keys_mode')),
    sa.ForeignKeyConstraint(['service_id'], ['services.id'], name=op.f('api_keys_service_id_fkey')),
    sa.PrimaryKeyConstraint('id', name=op.f('api_keys_pkey'))
    )
    op.create_table('devices',
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('token', sa.Text(), nullable=False),
    sa.Column('recipient_id', sa.BigInteger(), nullable=False),
    sa.Column('platform', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['service_id', 'recipient_id'], ['recipients.service_id', 'recipients.id'], name=op.f('devices_service_id_fkey'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('service_id', 'token', name=op.f('devices_pkey'))
    )
    op.create_index('devices_recipient', 'devices', ['service_id', 'recipient_id'], unique=False)
    op.create_table('subscriptions',
    sa.Column('service_id', sa.BigInteger(), nullable=False),
    sa.Column('endpoint', sa.Text(), nullable=False),
    sa.Column('recipient_id', sa.BigInteger(), nullable=False),
    sa.Column('p256dh', sa.Text(), nullable=False),
    sa.Column('auth', sa.Text(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['service_id', 'recipient_id'], ['recipients.service_id', 'recipients.id'], name=op.f('subscriptions_service_id_fkey'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('service_id', 'endpoint', name=op.f('subscriptions_pkey'))
    )
    op.create_index('subscriptions_recipient', 'subscriptions', ['service_id', 'recipient_id'], unique=False)
    # Three updates a delivery: room on the page keeps the table from growing.
    op.execute("ALTER TABLE deliveries SET (fillfactor = 80)")
