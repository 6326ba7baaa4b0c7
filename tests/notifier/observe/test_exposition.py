"""A role's folder: its children's counts are added up, also of those that are gone, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]

_BEGIN = """
    import os, signal, sys
    from pathlib import Path
    from notifier.observe import exposition
    exposition.prepare("urgent", port=0, keep_in={keep_in})
    from notifier.observe import metrics
    def child(work):
        pid = os.fork()
        if pid == 0:
            work()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        return pid
    def value(name):
        return [line.split()[-1] for line in exposition.page().decode().splitlines() if line.split()[0] == name]
"""


def role(script: str, *, first: str = "", keep_in: Path | None = None, **env: str) -> tuple[int, str]:
    """Run a role that does `script`; its exit code and what it said."""
    begin = _BEGIN.format(keep_in=f"Path({str(keep_in)!r})" if keep_in else None)
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{textwrap.dedent(begin)}{textwrap.dedent(script)}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_counts_of_all_children_are_added_up_also_of_those_that_were_killed() -> None:
    code, said = role("""
        for _ in range(3):
            pid = child(metrics.CHUNKS.inc)
        metrics.CHUNKS.inc()
        print(value("notifier_campaign_chunks_total"))
    """)
    assert (code, said) == (0, "['4.0']")


def test_who_is_gone_leaves_its_counts_and_no_files() -> None:
    _, said = role("""
        for _ in range(30):
            exposition.forget(child(lambda: (metrics.CHUNKS.inc(), metrics.GROUP.observe(3))))
        print(value("notifier_campaign_chunks_total"), value("notifier_intake_group_size_count"))
        print(len(list(exposition.folder().iterdir())) < 10)
    """)
    assert said == "['30.0'] ['30.0']\nTrue"


def test_the_gauges_of_who_is_gone_are_gone() -> None:
    _, said = role("""
        metrics.DATABASE_POOL.labels("in_use").set(1)
        pid = child(lambda: metrics.DATABASE_POOL.labels("in_use").set(3))
        exposition.forget(pid)
        print(value('notifier_database_pool{state="in_use"}'))
    """)
    assert said == "['1.0']"


def test_who_is_gone_without_a_word_is_found_out_at_the_next_look() -> None:
    _, said = role("""
        child(lambda: (metrics.DATABASE_POOL.labels("in_use").set(3), metrics.CHUNKS.inc()))
        print(value('notifier_database_pool{state="in_use"}'), value("notifier_campaign_chunks_total"))
    """)
    assert said == "[] ['1.0']"


def test_counts_in_a_kept_folder_survive_a_kill_and_gauges_do_not(tmp_path: Path) -> None:
    killed, _ = role(
        """
        child(metrics.CHUNKS.inc)
        metrics.CHUNKS.inc()
        metrics.DATABASE_POOL.labels("in_use").set(3)
        metrics.last_sweep().set(1000)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        keep_in=tmp_path,
    )
    assert killed == -signal.SIGKILL
    _, said = role(
        """
        metrics.last_sweep().set(900)
        print(value("notifier_campaign_chunks_total"), value('notifier_database_pool{state="in_use"}'))
        print(value("notifier_last_sweep_timestamp_seconds"))
        """,
        keep_in=tmp_path,
    )
    assert said == "['2.0'] []\n['1000.0']"
    _, said = role('print(value("notifier_campaign_chunks_total"))', keep_in=tmp_path)
    assert said == "['2.0']", "and are not added again"


def test_a_fresh_folder_goes_with_its_process(tmp_path: Path) -> None:
    _, said = role("child(metrics.CHUNKS.inc); print(exposition.folder())", TMPDIR=str(tmp_path))
    assert Path(said).parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_role_never_writes_into_the_folder_of_who_has_started_it(tmp_path: Path) -> None:
    _, said = role("metrics.CHUNKS.inc(); print(exposition.folder())", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert said != str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_children_are_counted_though_somebody_has_imported_prometheus_client_before() -> None:
    """As Flower does: `celery` loads it before our code whenever it is installed."""
    code = 'child(metrics.CHUNKS.inc); print(value("notifier_campaign_chunks_total"))'
    _, said = role(code, first="import prometheus_client")
    assert said == "['1.0']"


def test_a_second_process_of_a_role_has_a_folder_of_its_own(tmp_path: Path) -> None:
    _, said = role(
        f"""
        import subprocess
        code = "from notifier.observe import exposition as e; from pathlib import Path; "
        code += "e.prepare('urgent', port=0, keep_in=Path({str(tmp_path)!r})); print(e.folder().name)"
        print(exposition.folder().name, subprocess.check_output([sys.executable, "-c", code], text=True))
        """,
        keep_in=tmp_path,
    )
    assert said == "urgent urgent-2"


def test_a_file_that_was_cut_short_does_not_take_the_others_along(tmp_path: Path) -> None:
    (tmp_path / "urgent").mkdir()
    (tmp_path / "urgent" / "counter_999999.db").write_bytes(b"\xff" * 20)
    (tmp_path / "urgent" / "counter_999998.db").write_bytes(b"")
    code, said = role('metrics.CHUNKS.inc(); print(value("notifier_campaign_chunks_total"))', keep_in=tmp_path)
    assert (code, said) == (0, "['1.0']")


def test_without_a_port_nothing_is_kept() -> None:
    code = "from notifier.observe import exposition as e; e.prepare('api', port=None); print(e.folder())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "None\n"
