"""/v1/providers: what providers report of messages. They have no key; what they bring is signed."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from notifier.api import answers
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may
from notifier.domain.errors import BadJson, NotFound

router = APIRouter(prefix="/v1/providers", tags=["providers"])

_FORGED = may(403)
_FORGED[403]["description"] = "Not what an allowed topic signed"
_OFF = may(404)
_OFF[404]["description"] = "No topic is allowed"
_BUSY = may(503)
_BUSY[503]["description"] = "Too many events are in progress, or the database is away; nothing was changed"
_BODY = {
    "requestBody": {
        "required": True,
        "description": 'A message as Amazon SNS posts it (docs.aws.amazon.com/sns, "HTTP/HTTPS notification JSON").',
        "content": {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}},
    }
}


@router.post(
    "/ses/events",
    status_code=204,
    responses=answers.GONE | may(400, 408, 413, 415, 429) | _FORGED | _OFF | _BUSY,
    openapi_extra=_BODY,
)
async def take_ses_event(request: Request, house: TheHouse) -> Response:
    """Take what SES reports through SNS: taken, delivered, bounced, complained.

    The message must be signed by SNS, come from a topic in `NOTIFIER_SES_EVENTS_TOPICS`, and be fresh. A
    subscription to such a topic is confirmed. A permanent bounce and a complaint suppress the address.
    """
    if house.ses_events is None:
        raise NotFound("No events are taken here: NOTIFIER_SES_EVENTS_TOPICS names no topic.")
    try:
        body = await request.body()
    except ClientDisconnect:  # as FastAPI has it for other routes; else a stranger could write tracebacks into our log
        raise BadJson("The client closed the connection before the body was complete.") from None
    event = await house.ses_events.read(body, now=datetime.now(UTC))
    if event is not None:
        await house.feedback.apply(event)
    return Response(status_code=204)
