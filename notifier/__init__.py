"""A notification delivery service: email, push and desktop, urgent at once and millions in bulk.

Doors     `api` (HTTP), `cli` (terminal), and `workers` beside this package (queue messages)
          `bootstrap` puts the house together from `settings`
Stories   `intake` accepts, `delivery` delivers and sweeps
Tools     `store` (PostgreSQL, the truth), `channels` (providers), `templating`, `queues` (Celery hints)
Domain    `domain`: words and rules, no I/O
Beside    `observe` (logs, metrics); `sandbox` and `embedded` (stand-ins the running service never imports)

Imports go downwards only. PostgreSQL is the truth; a Celery message is only a hint.
"""

__version__ = "0.1.0"
