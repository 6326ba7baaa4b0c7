"""A provider's words without whom they are about: relays and push services like to quote whom they refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from notifier.domain.recipient import Device, Subscription, Target

IN_ITS_PLACE = "(address)"
#: A part of an address is taken for one if it has so many characters: "de" and "send" are also words.
SHORTEST = 6


def unnamed(text: str, target: Target) -> str:
    """`text` without the address of `target`, whole or in a part that tells it, in any case, quoted for URLs or not.

    Providers' words are cut to some length before they come here, so that they may end within an address.
    """
    names = sorted({form for name in _names(target) for form in (name, quote(name, safe=""))}, key=len, reverse=True)
    for name in names:
        text = re.sub(re.escape(name), IN_ITS_PLACE, text, flags=re.IGNORECASE)
    folded = text.lower()
    for name in names:
        for length in range(min(len(name) - 1, len(text)), SHORTEST - 1, -1):
            if folded.endswith(name[:length].lower()):
                return text[:-length] + IN_ITS_PLACE
    return text


def _names(target: Target) -> Iterator[str]:
    """What stands for `target`: the address, and what of it could find or name somebody without the rest."""
    match target:
        case Device(token=token):
            yield token
        case Subscription(endpoint=endpoint, p256dh=p256dh, auth=auth):
            yield endpoint
            path = urlsplit(endpoint).path
            yield from (part for part in (path, path.rpartition("/")[2], p256dh, auth) if len(part) >= SHORTEST)
        case str() as address:
            yield address
            local = address.rpartition("@")[0]
            if len(local) >= SHORTEST:
                yield local
