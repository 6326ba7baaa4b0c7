"""API key → Caller with scopes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from notifier.domain.caller import Caller, Scope, key_hash
from notifier.domain.errors import LiveOnly, ScopeMissing, Unauthenticated
from notifier.domain.notification import Mode
from notifier.store import services
from notifier.store.database import ANSWER_SECONDS, Database

#: A key that was looked up is trusted for so long: a revoked one stops working within it.
FRESH_SECONDS = 2.0
_REMEMBERED = 10_000

_bearer = HTTPBearer(auto_error=False, description="An API key: `notifier keys create NAME --scope …`")


class Keys:
    """Looks keys up, and remembers the answer for a moment. Memory holds hashes, never keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, authorization: str | None) -> Caller:
        """Who sends this `Authorization` header; Unauthenticated if nobody we know."""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated
        digest = key_hash(key)
        until, caller = self._known.get(digest, (0.0, None))
        if until < time.monotonic():
            async with self._database.transaction(within=ANSWER_SECONDS) as tx:
                caller = await services.caller_of(tx, key)
            self._known[digest] = (time.monotonic() + FRESH_SECONDS, caller)
            self._known.move_to_end(digest)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if caller is None:
            raise Unauthenticated("This API key is unknown or revoked. `notifier keys create NAME` makes a new one.")
        return caller


async def caller(request: Request, _: Any = Security(_bearer)) -> Caller:
    """Whoever sent the request; the gate in `limits` has looked them up already."""
    found: Caller = request.scope["notifier.caller"]
    return found


def having(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has at least one of `scopes`."""

    async def check(known: Annotated[Caller, Depends(caller)]) -> Caller:
        if not any(known.may(scope) for scope in scopes):
            wanted = " or ".join(scopes)
            raise ScopeMissing(
                f"This needs the scope {wanted}, which this API key lacks. "
                f"`notifier keys create NAME --scope {scopes[0]}` makes one that has it."
            )
        return known

    return check


def having_live(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who shows a live key that has at least one of `scopes`."""
    has_scope = having(*scopes)

    async def check(key_holder: Annotated[Caller, Depends(caller)]) -> Caller:
        if key_holder.mode is not Mode.LIVE:  # first: no scope would help a test key
            raise LiveOnly
        return await has_scope(key_holder)

    return check


#: Any valid key.
Known = Annotated[Caller, Depends(caller)]
Sends = Annotated[Caller, Depends(having(Scope.SEND_URGENT, Scope.SEND_BULK))]
Reads = Annotated[Caller, Depends(having(Scope.READ))]
Plans = Annotated[Caller, Depends(having(Scope.CAMPAIGNS))]
ReadsCampaigns = Annotated[Caller, Depends(having(Scope.CAMPAIGNS, Scope.READ))]
Keeps = Annotated[Caller, Depends(having_live(Scope.RECIPIENTS))]
ReadsRecipients = Annotated[Caller, Depends(having_live(Scope.RECIPIENTS, Scope.READ))]
