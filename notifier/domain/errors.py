"""Every error we raise on purpose: a stable `code`, and a sentence that says what to do.

`notifier.api.problems` turns them into problem+json and the CLI into exit codes; nobody else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of the input. `loc` is its path, such as ("body", "data", "amount")."""

    loc: tuple[str | int, ...]
    code: str
    message: str


class NotifierError(Exception):
    """Something a caller can do something about. `detail` is one sentence or two, with the remedy."""

    code = "error"
    title = "Something went wrong"

    def __init__(
        self, detail: str | None = None, *, fields: Sequence[FieldProblem] = (), retry_after: float | None = None
    ) -> None:
        self.detail = detail or (self.__doc__ or self.title).strip().splitlines()[0]
        self.fields = tuple(fields)
        self.retry_after = retry_after
        super().__init__(self.detail)


# -- the request is wrong --


class Invalid(NotifierError):
    """The request is not valid; `errors` names each field and its remedy."""

    code = "validation_error"
    title = "The request is not valid"


class TemplateNotFound(Invalid):
    """There is no such template. GET /v1/templates lists them."""

    code = "template_not_found"
    title = "No such template"


class TemplateDataMissing(Invalid):
    """The template needs variables that `data` does not have. Add them, or give them defaults in template.toml."""

    code = "template_data_missing"
    title = "Template variables are missing"


class TemplateDataInvalid(Invalid):
    """`data` does not fit the template's variables."""

    code = "template_data_invalid"
    title = "Template variables do not fit"


class TemplateRenderFailed(Invalid):
    """The template could not be rendered with this data."""

    code = "template_render_failed"
    title = "The template could not be rendered"


class ChannelNotInTemplate(Invalid):
    """The template has no such channel."""

    code = "channel_not_in_template"
    title = "The template has no such channel"


class AddressInvalid(Invalid):
    """An address is malformed."""

    code = "address_invalid"
    title = "An address is malformed"


class EndpointForbidden(AddressInvalid):
    """The subscription's endpoint is not at a known push service."""

    code = "endpoint_forbidden"
    title = "Endpoint not allowed"


class PayloadTooLarge(Invalid):
    """The rendered message is larger than its channel carries. Shorten `data`."""

    code = "payload_too_large"
    title = "The rendered message is too large"


class ExpiryInvalid(Invalid):
    """The notification would be dead before it is sent."""

    code = "expiry_invalid"
    title = "Expiry does not fit"


class CampaignInvalid(Invalid):
    """The campaign could never be carried out as it is asked for."""

    code = "campaign_invalid"
    title = "The campaign cannot be carried out"


class SourceNotFound(Invalid):
    """There is no such source of recipients for this service."""

    code = "source_not_found"
    title = "No such source"


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used with another body. Use a new key for a new request."""

    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class IdempotencyKeyInvalid(NotifierError):
    """Idempotency-Key must have 1 to 255 printable ASCII characters, bare or in double quotes."""

    code = "idempotency_key_invalid"
    title = "Malformed Idempotency-Key"


class BadJson(NotifierError):
    """The body is not JSON."""

    code = "bad_json"
    title = "The body is not JSON"


class BodyTooLarge(NotifierError):
    """The body is larger than this endpoint takes."""

    code = "body_too_large"
    title = "Body too large"


class BodyTooSlow(NotifierError):
    """The body took too long to arrive."""

    code = "body_too_slow"
    title = "Body too slow"


class HeadTooLarge(NotifierError):
    """The request's head, or its trailers, are too large. Send shorter headers or a shorter path."""

    code = "head_too_large"
    title = "Head too large"


class HeadTooSlow(NotifierError):
    """The request's head took too long to arrive. Open a new connection and send the head at once."""

    code = "head_too_slow"
    title = "Head too slow"


class UnsupportedMedia(NotifierError):
    """Send plain application/json without Content-Encoding."""

    code = "unsupported_media_type"
    title = "Unsupported media type"


# -- the caller may not --


class Unauthenticated(NotifierError):
    """Send a valid API key: `Authorization: Bearer <key>`. `notifier keys create` makes one."""

    code = "unauthenticated"
    title = "No valid API key"


class LiveOnly(NotifierError):
    """Test keys have no directory and no suppression list of their own. Use a live key of the service."""

    code = "live_only"
    title = "Only for live keys"


class ScopeMissing(NotifierError):
    """This API key lacks a scope. Create one with it: `notifier keys create NAME --scope …`."""

    code = "scope_missing"
    title = "Scope missing"


class EventForged(NotifierError):
    """What a provider is said to report is not signed by it, or is not meant for us; nothing was changed."""

    code = "event_forged"
    title = "Not a genuine event"


# -- it is not there, or too late --


class NotFound(NotifierError):
    """There is no such thing, or it belongs to another service or mode."""

    code = "not_found"
    title = "Not found"


class RecipientNotFound(NotFound):
    """No recipient has this id. PUT /v1/recipients/{id} first, or give addresses in place of the id."""

    code = "recipient_not_found"
    title = "No such recipient"


class TooLate(NotifierError):
    """It can no longer be cancelled: every delivery is on its way or over."""

    code = "too_late"
    title = "Too late"


class WrongState(NotifierError):
    """It is not in a state for that."""

    code = "wrong_state"
    title = "Not in a state for that"


# -- we cannot just now --


class RateLimited(NotifierError):
    """Too many requests with this key. Wait as long as Retry-After says."""

    code = "rate_limited"
    title = "Too many requests"


class BacklogFull(NotifierError):
    """Too much is waiting already in this priority. Wait as long as Retry-After says."""

    code = "backlog_full"
    title = "Backlog is full"


class TooManyAtOnce(NotifierError):
    """Too many requests of this kind are in progress. Wait as long as Retry-After says."""

    code = "too_many_at_once"
    title = "Too many requests at once"


class Unavailable(NotifierError):
    """The database cannot be reached; nothing was accepted. Try again, with the same Idempotency-Key."""

    code = "unavailable"
    title = "Temporarily unavailable"


class SourceUnavailable(NotifierError):
    """A source of recipients cannot be reached just now."""

    code = "source_unavailable"
    title = "Source unavailable"


# -- the operator must act --


class SourceInvalid(NotifierError):
    """A source's query does not give what it should."""

    code = "source_invalid"
    title = "A source gives what it should not"


class SettingsInvalid(NotifierError):
    """A setting is wrong."""

    code = "settings_invalid"
    title = "A setting is wrong"


class TemplatesInvalid(NotifierError):
    """The templates folder is missing or a template in it is broken."""

    code = "templates_invalid"
    title = "Templates cannot be used"


class ServerUnreachable(NotifierError):
    """A server this process needs does not answer."""

    code = "server_unreachable"
    title = "Server unreachable"


class StackFailed(NotifierError):
    """A part of the stack on this machine cannot run; its log says why."""

    code = "stack_failed"
    title = "The stack cannot run"


class PortTaken(StackFailed):
    """Another program listens on this port. Choose another, or 0 for a free one."""

    code = "port_taken"
    title = "Port taken"


class DataDirInUse(StackFailed):
    """Another stack runs on this data directory. Stop it, or choose another directory."""

    code = "data_dir_in_use"
    title = "Data directory in use"
