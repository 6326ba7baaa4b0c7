"""The owner of every row that a key may see or change."""

from __future__ import annotations

from dataclasses import dataclass

from notifier.domain.notification import Mode


@dataclass(frozen=True, slots=True)
class Tenant:
    """A service in one mode: a key leads to one tenant and no further. Test keys never reach what is live."""

    service_id: int
    mode: Mode

    @property
    def parameters(self) -> dict[str, object]:
        """What every statement that is scoped by a tenant asks for: `:service_id` and `:mode`."""
        return {"service_id": self.service_id, "mode": self.mode}
