"""For development: our own processes begin anew whenever their code or the templates change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import watchfiles

import notifier
from notifier.embedded.supervise import Supervisor

#: Within this time of the first change others are taken together: an editor writes many files at once.
_TOGETHER_MS = 300
#: How often we look whether we are to stop, or a process has ended for good.
_LOOK_MS = 500
_CODE = Path(notifier.__file__).parent
_SANDBOX = _CODE / "sandbox"


class Reloader:
    """Watches the code that runs here and `templates`, and starts `names` anew when something has changed.

    The sandbox is left alone, with its inbox, unless its own code is what has changed.
    """

    def __init__(
        self, supervisor: Supervisor, names: Sequence[str], *, templates: Path, grace: float, say: Callable[[str], None]
    ) -> None:
        self._supervisor = supervisor
        self._names = tuple(names)
        self._grace = grace
        self._say = say
        self._watched = [path for path in (_CODE, _CODE.parent / "workers", templates) if path.is_dir()]
        self._told: set[str] = set()

    def watch(self) -> None:
        """Stay until asked to stop. A process that ends by itself (a slip in the code) is told of, and left so."""
        for name in self._names:
            self._supervisor.children[name].keep_alive = False  # it would fall again and again, and say so late
        for changes in watchfiles.watch(
            *self._watched,
            stop_event=self._supervisor.interrupted,
            debounce=_TOGETHER_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if changes:
                self._begin_anew([Path(name) for _, name in changes])
            self._tell_of_ends()

    def _begin_anew(self, changed: Sequence[Path]) -> None:
        is_sandbox = [path.is_relative_to(_SANDBOX) for path in changed]
        names = () if all(is_sandbox) else self._names
        names += ("sandbox",) if any(is_sandbox) and "sandbox" in self._supervisor.children else ()
        self._say(f"{_shown(changed)} changed: {', '.join(names)} begin anew.")
        self._supervisor.restart(*names, grace=self._grace)
        self._told -= set(names)

    def _tell_of_ends(self) -> None:
        for name in self._names:
            child = self._supervisor.children[name]
            if not (child.is_running or name in self._told or self._supervisor.interrupted.is_set()):
                self._told.add(name)
                self._say(f"{child.last_words()}\n{name} is started again when something changes.")


def _shown(changed: Sequence[Path]) -> str:
    first = min(changed)
    return first.name if len(changed) == 1 else f"{first.name} and {len(changed) - 1} more"
