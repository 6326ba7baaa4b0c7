"""The sandbox: one process that plays SES v2, FCM v1, Web Push and an SMTP relay, and remembers every call.

In come our real clients, speaking the providers' true wire formats. Out go the providers' true answers, or
what a fault script or a simulated recipient (`recipients.py`) asks for instead. Each call stands in an
append-only ledger before it is answered, and a person can look at the inbox. It must never carry a message
anywhere, and the running service must never import it.
"""

from notifier.sandbox.server import Sandbox, SandboxBusy, run, serve, start

__all__ = ["Sandbox", "SandboxBusy", "run", "serve", "start"]
