"""The peer: what many teams run today. One row and one commit a request, one Celery message and one SES call a user.

Written as well as such code usually is: pooled connections, acks_late, one boto3 client a process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import boto3
from botocore.config import Config
from celery import Celery
from fastapi import FastAPI
from jinja2 import Environment
from pydantic import BaseModel

app = Celery("peer", broker=os.environ["NOTIFIER_REDIS_URL"])
app.conf.update(
    task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1, worker_enable_remote_control=False,
    task_default_queue="peer",
)  # fmt: skip

_TEMPLATE = Environment(autoescape=True).from_string(
    "<html><body><p>You received {{ amount }} {{ currency }}</p></body></html>"
)
_ses: Any = None


@app.task(name="peer.send")
def send(user_id: int, email: str, data: dict[str, str]) -> None:
    """Render and send one mail."""
    global _ses
    if _ses is None:
        _ses = boto3.client(
            "sesv2",
            region_name="eu-west-1",
            endpoint_url=os.environ["NOTIFIER_SES_ENDPOINT_URL"],
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",
            config=Config(retries={"total_max_attempts": 1}),
        )
    _ses.send_email(
        FromEmailAddress="peer@example.com",
        Destination={"ToAddresses": [email]},
        Content={
            "Simple": {
                "Subject": {"Data": "You received money"},
                "Body": {"Html": {"Data": _TEMPLATE.render(data)}, "Text": {"Data": "You received money"}},
            }
        },
        EmailTags=[{"Name": "delivery_id", "Value": str(user_id)}, {"Name": "attempt", "Value": "1"}],
    )


class Ask(BaseModel):
    user_id: int
    email: str
    data: dict[str, str]


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    api.state.pool = await asyncpg.create_pool(os.environ["NOTIFIER_DATABASE_URL"], min_size=5, max_size=5)
    await api.state.pool.execute("CREATE TABLE IF NOT EXISTS peer (id bigint, email text, data text, at timestamptz)")
    yield
    await api.state.pool.close()


api = FastAPI(lifespan=_lifespan)


@api.post("/send", status_code=202)
async def accept(ask: Ask) -> dict[str, str]:
    """Store the request and queue its task."""
    await api.state.pool.execute("INSERT INTO peer VALUES ($1, $2, $3, now())", ask.user_id, ask.email, str(ask.data))
    send.delay(ask.user_id, ask.email, ask.data)
    return {"status": "accepted"}
