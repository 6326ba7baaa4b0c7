"""No migration keeps the service from its tables: every one is read, and every rule is seen to bite."""

from __future__ import annotations

import pytest
from alembic import op
from alembic.script import Script, ScriptDirectory

from notifier.store.migrations import config
from tests.notifier.store.migration_rules import EXCEPTIONS, Statement, broken, statements

ALL = list(ScriptDirectory.from_config(config()).walk_revisions())
every = pytest.mark.parametrize("script", ALL, ids=lambda script: script.revision)


@every
def test_a_migration_locks_nobody_out_for_long(script: Script) -> None:
    assert broken(script.revision, statements(script.module.upgrade)) == []


@every
def test_a_migrations_file_is_named_by_its_revision(script: Script) -> None:
    assert script.revision.startswith(("pre_", "post_"))
    assert script.path.rsplit("/", 1)[1].startswith(script.revision)


@every
def test_a_line_of_migrations_has_no_other_line_in_it(script: Script) -> None:
    """A `pre_` one that followed a `post_` one could not be applied before it."""
    part = script.revision.split("_")[0]
    assert script.down_revision is None or str(script.down_revision).startswith(part)


def test_every_exception_is_one() -> None:
    executed = {script.revision: [each.sql for each in statements(script.module.upgrade)] for script in ALL}
    assert all(any(words in sql for sql in executed[name]) for name, words in EXCEPTIONS)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("CREATE INDEX a ON deliveries (status)", "CONCURRENTLY"),
        ("CREATE UNIQUE INDEX a ON deliveries (status)", "CONCURRENTLY"),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON deliveries (status)", "invalid"),
        ("CREATE INDEX CONCURRENTLY a ON deliveries (status)", "dropped first"),
        ("DROP INDEX deliveries_due", "CONCURRENTLY"),
        ("REINDEX TABLE deliveries", "CONCURRENTLY"),
        ("VACUUM (FULL) deliveries", "everybody"),
        ("ALTER TABLE deliveries ADD COLUMN a UUID DEFAULT gen_random_uuid()", "volatile"),
        ("ALTER TABLE deliveries ADD COLUMN a TIMESTAMP DEFAULT clock_timestamp() NOT NULL", "volatile"),
        ("ALTER TABLE deliveries ADD COLUMN a TEXT GENERATED ALWAYS AS (status) STORED", "rewrites"),
        ("ALTER TABLE deliveries ADD COLUMN a BIGSERIAL", "rewrites"),
        ("ALTER TABLE deliveries ADD COLUMN a TEXT NOT NULL", "default"),
        ("ALTER TABLE deliveries ALTER COLUMN fence TYPE BIGINT", "rewrites"),
        ("ALTER TABLE deliveries ALTER COLUMN reason SET NOT NULL", "CHECK"),
        ("ALTER TABLE deliveries ADD CONSTRAINT a CHECK (fence > 0)", "NOT VALID"),
        ("ALTER TABLE deliveries ADD CONSTRAINT a FOREIGN KEY (service_id) REFERENCES services", "NOT VALID"),
        ("ALTER TABLE deliveries ADD CONSTRAINT a UNIQUE (service_id)", "USING INDEX"),
        ("ALTER TABLE deliveries VALIDATE CONSTRAINT a", "autocommit_block"),
        ("ALTER TABLE deliveries DROP COLUMN reason", "reads it"),
        ("ALTER TABLE deliveries RENAME COLUMN reason TO why", "by its name"),
        ("DROP TABLE deliveries", "reads it"),
        ("LOCK TABLE deliveries", "everybody"),
        ("TRUNCATE deliveries", "everybody"),
        ("UPDATE deliveries SET reason = NULL", "pieces"),
        ("DELETE FROM deliveries WHERE reason IS NULL", "pieces"),
    ],
)
def test_what_locks_for_long_is_found(sql: str, why: str) -> None:
    found = broken("pre_9999", [Statement(sql, in_transaction="CONCURRENTLY" not in sql)])
    assert any(why in problem for problem in found), found


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE deliveries ADD COLUMN a TEXT",
        "ALTER TABLE deliveries ADD COLUMN a INTEGER DEFAULT '0' NOT NULL",
        "ALTER TABLE deliveries ADD COLUMN a TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
        "ALTER TABLE deliveries ADD CONSTRAINT a CHECK (fence > 0) NOT VALID",
        "ALTER TABLE deliveries ALTER COLUMN reason DROP NOT NULL",
        "ALTER TABLE deliveries SET (fillfactor = 80)",
        "CREATE TABLE a (id BIGINT NOT NULL)",
    ],
)
def test_what_locks_for_a_moment_may_be(sql: str) -> None:
    assert broken("pre_9999", [Statement(sql, in_transaction=True)]) == []


def test_an_index_of_a_new_table_need_not_be_made_concurrently() -> None:
    made = [Statement("CREATE TABLE a (id BIGINT NOT NULL)", True), Statement("CREATE INDEX b ON a (id)", True)]
    assert broken("pre_9999", made) == []


def test_what_takes_away_may_run_afterwards() -> None:
    gone = [Statement("ALTER TABLE deliveries DROP COLUMN reason", True)]
    assert broken("pre_9999", gone)
    assert broken("post_9999", gone) == []


def test_an_index_made_concurrently_is_seen_where_it_is_made() -> None:
    def upgrade() -> None:
        with op.get_context().autocommit_block():
            op.drop_index("a", "deliveries", postgresql_concurrently=True, if_exists=True)
            op.create_index("a", "deliveries", ["status"], postgresql_concurrently=True)

    assert broken("pre_9999", statements(upgrade)) == []
    assert [each.in_transaction for each in statements(upgrade)] == [False, False]
