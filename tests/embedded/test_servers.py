"""Private PostgreSQL and Valkey: real ones."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from notifier.domain.errors import StackFailed
from notifier.embedded import Stack
from tests.embedded.processes import alive, descendants, wait_until
from tests.embedded.servers import redis, sql


def test_a_second_start_finds_the_data_the_ports_and_the_passwords_of_the_first(folder: Path) -> None:
    with Stack(folder / "data") as stack:
        first = stack.start_servers()
        sql(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        redis(first.redis_url, "SET", "kept", "42")
    with Stack(folder / "data") as stack:
        assert stack.start_servers() == first
        assert sql(first.database_url, "SELECT answer FROM kept") == 42
        assert redis(first.redis_url, "GET", "kept") == "42"


def test_two_stacks_run_side_by_side_and_do_not_see_each_other(folder: Path) -> None:
    with Stack(folder / "one", fsync=False) as one, Stack(folder / "two", fsync=False) as two:
        here, there = one.start_servers(), two.start_servers()
        sql(here.database_url, "CREATE TABLE only_here ()")
        redis(here.redis_url, "SET", "only", "here")
        assert sql(there.database_url, "SELECT to_regclass('only_here')") is None
        assert redis(there.redis_url, "GET", "only") is None


def test_killed_servers_start_again_with_everything_that_was_committed(stack: Stack) -> None:
    urls = stack.start_servers()
    sql(urls.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    redis(urls.redis_url, "SET", "kept", "42")
    for pid in (stack.postgres.pid, stack.valkey.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not stack.postgres.is_running and not stack.valkey.is_running)
    assert stack.start_servers() == urls
    assert sql(urls.database_url, "SELECT answer FROM kept") == 42
    assert redis(urls.redis_url, "GET", "kept") == "42"


def test_each_server_stops_and_starts_alone(stack: Stack) -> None:
    urls = stack.start_servers()
    stack.valkey.stop()
    assert sql(urls.database_url, "SELECT 1") == 1
    assert stack.valkey.start() == urls.redis_url
    stack.postgres.stop()
    assert redis(urls.redis_url, "PING") is True
    assert stack.postgres.start() == urls.database_url


def test_a_pid_file_that_names_another_program_does_not_prevent_the_start(stack: Stack) -> None:
    url = stack.postgres.start()
    stack.postgres.kill()
    pid_file = stack.data_dir / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    other = subprocess.Popen(["sleep", "60"], user=pid_file.stat().st_uid if os.geteuid() == 0 else None)
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        assert stack.postgres.start() == url
        assert other.poll() is None, "a program that is not ours was ended"
    finally:
        other.kill()
        other.wait()


def test_a_creation_that_was_cut_short_begins_anew(stack: Stack) -> None:
    stack.postgres.start()
    stack.postgres.stop()
    data = stack.data_dir / "postgres" / "data"
    data.rename(data.with_name("data.new"))
    assert sql(stack.postgres.start(), "SELECT 1") == 1


@pytest.mark.parametrize("mode", [0o700, 0o711])
def test_a_closed_home_is_no_obstacle_and_stays_closed(folder: Path, mode: int) -> None:
    home = folder / "home"
    home.mkdir(mode=mode)
    with Stack(home / "data", fsync=False) as stack:
        assert sql(stack.postgres.start(), "SELECT 1") == 1
        place = Path(stack.home.get("postgres_folder") or "")
        stack.erase()
    assert not place.is_absolute() or not place.exists(), "data outside the data directory was left behind"
    assert stat.S_IMODE(home.stat().st_mode) == mode
    assert list(home.iterdir()) == []


def test_passwords_are_in_private_files_and_not_on_command_lines(stack: Stack) -> None:
    urls = stack.start_servers()
    passwords = [url.split(":")[2].split("@")[0] for url in (urls.database_url, urls.redis_url)]
    lines = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert not any(password in lines for password in passwords)
    for file in stack.data_dir.rglob("*"):
        if file.is_file() and any(password in file.read_text(errors="ignore") for password in passwords):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_valkey_refuses_writes_beyond_its_memory_and_evicts_nothing(folder: Path) -> None:
    with Stack(folder / "data", maxmemory_bytes=2 << 20) as stack:
        url = stack.valkey.start()
        redis(url, "SET", "early", "1")
        with pytest.raises(OutOfMemoryError):
            fill(url)
        assert redis(url, "GET", "early") == "1"


def test_data_that_is_gone_is_reported_and_not_silently_replaced(stack: Stack) -> None:
    stack.home.put("postgres_folder", "moved-away")
    with pytest.raises(StackFailed, match="which is gone"):
        stack.postgres.start()


def test_servers_that_outlived_parent_and_guard_are_taken_over(folder: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from notifier.embedded import Stack
stack = Stack(Path(sys.argv[1]), fsync=False)
urls = stack.start_servers()
print(urls.database_url, urls.redis_url, stack.supervisor.guard_pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder / "data")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        database_url, redis_url, guard = parent.stdout.readline().split()
    sql(database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    family = descendants(parent.pid)
    os.kill(parent.pid, signal.SIGSTOP)  # it would replace its guard
    os.kill(int(guard), signal.SIGKILL)
    parent.kill()
    parent.wait()
    assert len(alive(family)) > 2, "the servers were meant to outlive their parent"
    with Stack(folder / "data", fsync=False) as stack:
        assert stack.postgres.start() == database_url
        assert stack.valkey.start() == redis_url
        assert sql(database_url, "SELECT answer FROM kept") == 42
        assert not alive(family)


def fill(redis_url: str) -> None:
    for number in range(100):
        redis(redis_url, "SET", f"large-{number}", "x" * 100_000)
