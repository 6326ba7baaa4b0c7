"""Celery: queues in, two-line tasks out. What they do lives in `notifier`.

`python -m workers urgent` starts a pool (urgent, bulk or control), `python -m workers beat` the
clock; `celery -A workers.app worker -Q …` works as well. A message is only a hint: a task that is
lost, repeated or late changes no outcome, and no delay or retry ever lives in the broker.
"""

import sys
from contextlib import suppress

from notifier.domain.errors import SettingsInvalid
from notifier.observe import exposition
from notifier.settings import ROLES, load

#: What this process is, for its metrics; `worker` if Celery's own command has started it.
ROLE = next((word for word in sys.argv[1:] if word in ROLES), "worker")

# Here, since our metrics must not have been made yet. (Wrong settings are said by whoever needs them next.)
with suppress(SettingsInvalid):
    exposition.prepare(ROLE, port=load().metrics_port_of(ROLE), keep_in=load().metrics_dir)
