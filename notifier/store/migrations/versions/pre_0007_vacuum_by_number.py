"""large tables are vacuumed after a number of changes, not after a fifth of the table

By default autovacuum waits until a fifth of a table has changed: at 300 million deliveries, for six days of them.
Meanwhile the index of due rows, which every sweep reads from its beginning, keeps an entry for each step of each.
"""

from alembic import op

revision = 'pre_0007'
down_revision = 'pre_0006'

_CHANGED = 'autovacuum_vacuum_scale_factor = 0.005, autovacuum_vacuum_threshold = 20000'
_ADDED = 'autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 100000'
_COUNTED = 'autovacuum_analyze_scale_factor = 0.01'
_ALL = ('deliveries', 'delivery_events', 'notifications', 'idempotency')


def upgrade() -> None:
    # ShareUpdateExclusive: reads and writes go on.
    for table in _ALL:
        op.execute(f"ALTER TABLE {table} SET ({_CHANGED}, {_ADDED}, {_COUNTED})")


def downgrade() -> None:
    names = ', '.join(part.split(' = ')[0] for part in f"{_CHANGED}, {_ADDED}, {_COUNTED}".split(', '))
    for table in _ALL:
        op.execute(f"ALTER TABLE {table} RESET ({names})")
