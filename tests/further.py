"""Migrations that only tests have."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

from notifier.store import migrations


def further(folder: Path, **statements: str) -> Path:
    """A folder of migrations made for a test: each executes its statement; `post_` ones need all `pre_` ones."""
    (head,) = (name for name in ScriptDirectory.from_config(migrations.config()).get_heads() if name.startswith("pre_"))
    last_post: str | None = None
    for name, statement in statements.items():
        is_pre = name.startswith("pre_")
        before, needs = (head, None) if is_pre else (last_post, head)
        (folder / f"{name}.py").write_text(_MIGRATION.format(name=name, before=before, needs=needs, sql=statement))
        head, last_post = (name, last_post) if is_pre else (head, name)
    return folder


_MIGRATION = """'''a test'''
from alembic import op

revision, down_revision, depends_on = {name!r}, {before!r}, {needs!r}


def upgrade():
    if "CONCURRENTLY" not in {sql!r}:
        return op.execute({sql!r})
    with op.get_context().autocommit_block():
        op.execute({sql!r})
"""
