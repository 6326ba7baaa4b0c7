"""Celery: queues in, two-line tasks out. What they do lives in `notifier`.

`python -m workers urgent` starts a pool (urgent, bulk or control), `python -m workers beat` the
clock; `celery -A workers.app worker -Q …` works as well. A message is only a hint: a task that is
lost, repeated or late changes no outcome, and no delay or retry ever lives in the broker.
"""
