"""The same without root's rights. Everybody but root runs all other tests that way already."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from notifier.embedded import reach
from tests.embedded.processes import alive

ROOM = Path(__file__).parents[2]

RUNS_A_STACK = """
import os, sys
from pathlib import Path
from notifier.embedded import Stack
with Stack(Path("data"), fsync=False) as stack:
    first = stack.start_servers()
with Stack(Path("data"), fsync=False) as stack:
    assert stack.start_servers() == first
    folder = stack.data_dir / "postgres"
    print(os.geteuid(), folder.stat().st_uid, stack.postgres.pid, stack.valkey.pid)
"""


def test_an_ordinary_user_runs_a_stack_in_a_directory_of_his_own(folder: Path) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        os.chown(folder, uid, gid)
    said = as_user(uid, gid, RUNS_A_STACK, cwd=folder)
    assert said.returncode == 0, said.stderr
    me, owner, *servers = map(int, said.stdout.split())
    assert (me, owner) == (uid, uid)
    assert not alive(set(servers))


def as_user(uid: int, gid: int, code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code under an account, by an interpreter that it can reach (root's own may lie in a closed home)."""
    path = os.pathsep.join([str(ROOM), sysconfig.get_path("purelib")])
    same_version = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    is_root = os.geteuid() == 0
    interpreters = [Path(known) for known in (sys.executable, same_version) if known]
    if is_root:
        interpreters = list(filter(reach.Account("", uid, gid).can_read, interpreters))
    return subprocess.run(
        [str(interpreters[0]), "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "HOME": "/nonexistent"},
        user=uid if is_root else None,
        group=gid if is_root else None,
        extra_groups=[] if is_root else None,
        capture_output=True,
        text=True,
        timeout=110,
    )
