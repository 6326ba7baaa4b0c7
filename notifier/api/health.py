"""/livez: this process answers. /readyz: it can accept, that is, PostgreSQL answers it and takes writes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from notifier.api import answers
from notifier.api.houses import TheHouse
from notifier.api.problems import problems as may

router = APIRouter(tags=["health"])


@router.get("/livez", responses=answers.HEALTH)
async def livez() -> Response:
    """Whether the process is alive."""
    return answers.json({"status": "ok"})


@router.get("/readyz", responses=answers.HEALTH | may(503))
async def readyz(house: TheHouse) -> Response:
    """Whether it can accept notifications. Redis is not asked: without it they are accepted all the same."""
    await house.database.check_writable()
    return answers.json({"status": "ok"})
