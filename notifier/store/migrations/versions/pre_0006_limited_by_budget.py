"""a campaign may be limited by its provider's budget

The new rule lets through whatever the old one did, so no row needs to be looked at while it is put in place.
"""

from alembic import op

revision = 'pre_0006'
down_revision = 'pre_0005'

_NAME = 'campaigns_limited_by'


def _allow(*words: str) -> None:
    listed = ", ".join(f"'{word}'" for word in words)
    op.execute(f"ALTER TABLE campaigns DROP CONSTRAINT {_NAME}, "
               f"ADD CONSTRAINT {_NAME} CHECK (limited_by IN ({listed})) NOT VALID")
    op.execute(f"ALTER TABLE campaigns VALIDATE CONSTRAINT {_NAME}")


def upgrade() -> None:
    _allow('pace', 'budget', 'workers', 'window', 'audience')


def downgrade() -> None:
    op.execute("UPDATE campaigns SET limited_by = 'workers' WHERE limited_by = 'budget'")
    _allow('pace', 'workers', 'window', 'audience')
