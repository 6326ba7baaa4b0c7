"""Provider name → how to build it: the one table. A new provider is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from notifier.channels.contract import Provider
from notifier.channels.options import ProviderOptions
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel

# Imported when built: boto3, pyfcm and their friends take half a second and 60 MB, and the API
# process, which sends nothing, needs none of them.


def _ses(options: ProviderOptions) -> Provider:
    from notifier.channels.email.ses import Ses

    return Ses(options.ses)


def _smtp(options: ProviderOptions) -> Provider:
    from notifier.channels.email.smtp import Smtp

    return Smtp(options.smtp)


def _fcm(options: ProviderOptions) -> Provider:
    from notifier.channels.push.fcm import Fcm

    return Fcm(options.fcm)


def _webpush(options: ProviderOptions) -> Provider:
    from notifier.channels.desktop.webpush import WebPush

    return WebPush(options.webpush)


def _sandbox_email(options: ProviderOptions) -> Provider:
    from notifier.channels import sandbox

    return sandbox.email(options)


def _sandbox_push(options: ProviderOptions) -> Provider:
    from notifier.channels import sandbox

    return sandbox.push(options)


def _sandbox_desktop(options: ProviderOptions) -> Provider:
    from notifier.channels import sandbox

    return sandbox.desktop(options)


PROVIDERS: dict[tuple[Channel, str], Callable[[ProviderOptions], Provider]] = {
    (Channel.EMAIL, "ses"): _ses,
    (Channel.EMAIL, "smtp"): _smtp,
    (Channel.PUSH, "fcm"): _fcm,
    (Channel.DESKTOP, "webpush"): _webpush,
    (Channel.EMAIL, "sandbox"): _sandbox_email,
    (Channel.PUSH, "sandbox"): _sandbox_push,
    (Channel.DESKTOP, "sandbox"): _sandbox_desktop,
}


def build(name: str, options: ProviderOptions, channel: Channel) -> Provider:
    """The provider `name` of `channel`, ready but not connected.

    SettingsInvalid names the setting that is missing or wrong. Build it in the process that uses it:
    connections do not survive a fork.
    """
    try:
        make = PROVIDERS[channel, name]
    except KeyError:
        known = ", ".join(sorted(known for at, known in PROVIDERS if at is channel))
        raise SettingsInvalid(
            f"NOTIFIER_{channel.upper()}_PROVIDERS: no provider {name!r} for {channel}; known are {known}."
        ) from None
    return make(options)
