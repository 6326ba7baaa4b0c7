"""What a migration may not do while the service runs, read from the SQL that it would execute.

Each rule names a statement that keeps everybody else from a table for as long as the table is large, or that an old
release could not live with. Tables that the same migration has made are nobody's yet.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

_TABLE = r"(?:ONLY )?(?:public\.)?\"?(\w+)\"?"
_VOLATILE = r"random|clock_timestamp|timeofday|nextval|gen_random_uuid|uuidv[47]|statement_timestamp"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, on one line, and whether it is in the migration's transaction."""

    sql: str
    in_transaction: bool


#: What may not be said of a table that others use, with what to do instead.
ON_A_TABLE_IN_USE = [
    (rf"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).* ON {_TABLE}", "make the index CONCURRENTLY"),
    (rf"ALTER TABLE {_TABLE} .*ADD COLUMN .*\bDEFAULT \(?(?:{_VOLATILE})\b", "a volatile default rewrites every row"),
    (rf"ALTER TABLE {_TABLE} .*ADD COLUMN .*(\bSTORED\b|\b(BIG|SMALL)?SERIAL\b|\bAS IDENTITY\b)", "rewrites every row"),
    (
        rf"ALTER TABLE {_TABLE} .*ADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL\b",
        "old code does not fill it: give a default",
    ),
    (rf"ALTER TABLE {_TABLE} .*ALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE\b", "rewrites every row: add a column instead"),
    (rf"ALTER TABLE {_TABLE} .*ADD CONSTRAINT .*(CHECK|FOREIGN KEY|NOT NULL)(?!.*NOT VALID)", "add it NOT VALID first"),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:CONSTRAINT .*)?(UNIQUE|PRIMARY KEY)(?!.*USING INDEX)",
        "CONCURRENTLY, USING INDEX",
    ),
    (rf"ALTER TABLE {_TABLE} .*SET (LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)", "rewrites the table"),
    (rf"LOCK (?:TABLE )?{_TABLE}", "locks everybody out"),
    (rf"(?:CLUSTER|TRUNCATE)(?: TABLE)? {_TABLE}", "locks everybody out"),
    (rf"UPDATE {_TABLE} SET", "locks every row in one transaction: fill it in pieces, by code"),
    (rf"DELETE FROM {_TABLE}", "locks every row in one transaction: delete in pieces, by code"),  # noqa: S608
]
#: What may not be said at all.
NEVER = [
    (r"DROP INDEX (?!CONCURRENTLY)", "drop the index CONCURRENTLY"),
    (r"REINDEX (?!.*CONCURRENTLY)", "reindex CONCURRENTLY"),
    (r"VACUUM (?:\(?.*)\bFULL", "locks everybody out"),
    (r"CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS", "one that was broken off is there, and invalid"),
]
#: What an old release, which still serves when `pre_` migrations run, could not live with.
NOT_BEFORE = [
    (rf"DROP TABLE (?:IF EXISTS )?{_TABLE}", "old code reads it"),
    (rf"ALTER TABLE {_TABLE} .*DROP COLUMN", "old code reads it"),
    (rf"ALTER TABLE {_TABLE} .*RENAME", "old code knows it by its name"),
    (rf"ALTER TABLE {_TABLE} .*SET NOT NULL", "old code does not fill it"),
]
#: (migration, words of a statement) → why it may.
EXCEPTIONS = {
    ("pre_0006", "VALIDATE CONSTRAINT campaigns_limited_by"): "there are hundreds of campaigns, not millions",
}


def statements(upgrade: Callable[[], None]) -> list[Statement]:
    """What a migration's `upgrade` would execute; nothing is."""
    told = io.StringIO()
    options = {"as_sql": True, "output_buffer": told, "transactional_ddl": True}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    with Operations.context(context):
        upgrade()
    found, in_transaction = [], True
    for sql in re.split(r";\s*\n", told.getvalue()):
        line = " ".join(sql.split()).rstrip(";")
        if line in ("COMMIT", "BEGIN"):
            in_transaction = line == "BEGIN"
        elif line:
            found.append(Statement(line, in_transaction))
    return found


def broken(name: str, ordered: list[Statement]) -> list[str]:
    """Each rule that a migration breaks, with the statement and what to do instead."""
    rules = ON_A_TABLE_IN_USE + (NOT_BEFORE if name.startswith("pre_") else [])
    made: set[str] = set()
    dropped: set[str] = set()
    found: list[tuple[Statement, str]] = []
    for statement in ordered:
        sql = statement.sql
        if new := re.match(rf"CREATE TABLE (?:IF NOT EXISTS )?{_TABLE}", sql, re.IGNORECASE):
            made.add(new[1])
        if gone := re.match(r"DROP INDEX CONCURRENTLY IF EXISTS (\w+)", sql, re.IGNORECASE):
            dropped.add(gone[1])
        found += [(statement, why) for why in _broken_by(statement, rules, made, dropped, ordered)]
    return [
        f"{name}: {statement.sql[:120]} — {why}"
        for statement, why in found
        if not any(name == where and words in statement.sql for where, words in EXCEPTIONS)
    ]


def _broken_by(
    statement: Statement, rules: list[tuple[str, str]], made: set[str], dropped: set[str], ordered: list[Statement]
) -> Iterator[str]:
    sql = statement.sql
    for pattern, why in NEVER:
        if re.match(pattern, sql, re.IGNORECASE):
            yield why
    for pattern, why in rules:
        if (told := re.match(pattern, sql, re.IGNORECASE)) and told[1] not in made:
            yield why
    if "CONCURRENTLY" in sql and statement.in_transaction:
        yield "CONCURRENTLY is not possible in a transaction: autocommit_block()"
    if (index := re.match(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (\w+)", sql, re.IGNORECASE)) and (
        index[1] not in dropped
    ):
        yield "what an attempt that was broken off has left must be dropped first (DROP INDEX CONCURRENTLY IF EXISTS)"
    if "VALIDATE CONSTRAINT" in sql and statement.in_transaction:
        yield "reads the table under the lock of what went before: autocommit_block()"
    if "SET NOT NULL" in sql and not any("VALIDATE CONSTRAINT" in before.sql for before in ordered):
        yield "reads the table under its lock: validate a CHECK (… IS NOT NULL) first"
