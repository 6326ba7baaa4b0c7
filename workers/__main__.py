"""`python -m workers urgent|bulk|control|beat`: start one pool, or the clock."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from notifier import bootstrap
from notifier.domain.errors import NotifierError

USAGE = "usage: python -m workers urgent|bulk|control|beat"


def main(arguments: list[str]) -> int:
    """Run until told to stop. 0 stopped, 1 could not start, 2 wrong use."""
    if len(arguments) != 1 or arguments[0] not in {"urgent", "bulk", "control", "beat"}:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    role = arguments[0]
    try:
        settings = bootstrap.prepare()
        if role != "beat":
            # Every child would fail on them one by one, and be started again for ever.
            bootstrap.catalogue(settings)
            bootstrap.providers(settings)
        bootstrap.check_broker(settings)
        bootstrap.check_metrics_port(settings)
    except NotifierError as error:
        print(f"notifier: {error.detail}", file=sys.stderr)  # noqa: T201
        return 1

    from celery.utils.nodenames import host_format

    from workers.app import app  # reads the settings, which are known to be right only now
    from workers.pools import pools

    if role == "beat":
        from workers.beat import Scheduler, watched

        # Nothing needs to be remembered between runs: a schedule file would only be one more thing to lose.
        with tempfile.TemporaryDirectory(prefix="notifier-beat-") as folder, watched(settings):
            schedule = str(Path(folder) / "schedule")
            scheduler: Any = Scheduler  # Celery takes the class itself as well as its name
            app.Beat(schedule=schedule, scheduler_cls=scheduler, loglevel=settings.log_level, quiet=True).run()
        return 0
    pool = pools(settings)[role]
    worker = app.Worker(
        queues=list(pool.queues),
        concurrency=pool.concurrency,
        hostname=host_format(f"{pool.name}@%h"),
        pool="prefork",
        optimization="fair",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not settings.worker_remote_control,
        loglevel=settings.log_level,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
