"""Channels: how a rendered message leaves the house, and what came of it.

In: a Message (one attempt, one target, rendered) and a timeout. Out: one Outcome, always: sent,
transient, throttled, permanent, address gone or unknown. Providers share nothing but the contract;
`registry.build` makes one from its options. Also here is what intake asks before it accepts: is this
address, subscription or payload one that the channel can carry?

Never here: rows, queues, retries, settings. A provider that does not know whether a message was
taken says Unknown; it never guesses.
"""

from notifier.channels.contract import Message, Provider
from notifier.channels.options import (
    FcmOptions,
    ProviderOptions,
    SandboxOptions,
    SesOptions,
    SmtpOptions,
    WebPushOptions,
)
from notifier.channels.registry import build

__all__ = [
    "FcmOptions",
    "Message",
    "Provider",
    "ProviderOptions",
    "SandboxOptions",
    "SesOptions",
    "SmtpOptions",
    "WebPushOptions",
    "build",
]
