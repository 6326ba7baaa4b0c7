"""The sandbox's own routes: ledger, fault scripts, inbox."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from notifier.sandbox.desk import Desk
from notifier.sandbox.faults import FaultScript
from notifier.sandbox.http import Answer, Request
from notifier.sandbox.ledger import FILTERS
from notifier.sandbox.recipients import SIMULATED
from notifier.sandbox.tally import Tally

HERE = Path(__file__).parent
MOST_ITEMS = 10_000
ITEMS = 1_000
#: Rows of /ledger/accepted in one chunk.
ROWS = 5_000

NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'nonce-{nonce}'; connect-src 'self'; frame-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: A mail may colour itself and show what it carries; it may load, run and send nothing.
MAIL_CSP = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


class BadQuery(ValueError):
    """A query that cannot be answered; the message says why."""


class Pages:
    """What people and tests ask of the sandbox itself."""

    def __init__(self, desk: Desk, addresses: Callable[[], dict[str, Any]]) -> None:
        self._desk = desk
        self._addresses = addresses
        self._templates = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["clock"] = _clock
        self._css = (HERE / "inbox.css").read_bytes()

    # -- ledger --

    async def ledger(self, request: Request) -> Answer:
        """GET /ledger?provider=&delivery_id=&outcome=&after=&limit= → items, and `next` for `after` or null."""
        try:
            query = request.query
            where = {name: query[name] for name in FILTERS if name in query}
            if unknown := query.keys() - {*FILTERS, "after", "limit"}:
                raise BadQuery(f"unknown parameter {sorted(unknown)[0]}")
            after = _count(query, "after", 0)
            limit = min(max(_count(query, "limit", ITEMS), 1), MOST_ITEMS)
        except BadQuery as error:
            return _bad(str(error))
        items: list[dict[str, Any]] = []
        for entry in self._desk.ledger.entries(after=after, where=where):
            if entry is None:
                await asyncio.sleep(0)
            elif len(items) == limit:
                return Answer.of({"items": items, "next": items[-1]["seq"]})
            else:
                items.append(entry)
        return Answer.of({"items": items, "next": None})

    async def summary(self, request: Request) -> Answer:
        """GET /ledger/summary?since_seq=: counts of all, or of what came after that number."""
        try:
            since = _count(request.query, "since_seq", 0)
        except BadQuery as error:
            return _bad(str(error))
        ledger = self._desk.ledger
        if not since:
            return Answer.of({**ledger.tally.summary(), "last_seq": ledger.last})
        tally, last = Tally(), ledger.last
        for entry in ledger.entries(after=since):
            if entry is None:
                await asyncio.sleep(0)
            else:
                tally.add(entry["provider"], entry["outcome"], entry["delivery_id"], entry["target"])
        return Answer.of({**tally.summary(), "last_seq": last})

    def accepted(self, _: Request) -> Answer:
        """GET /ledger/accepted: [[delivery_id, target, count], …], all of it in one stream."""
        return Answer(body=self._accepted())

    async def _accepted(self) -> AsyncIterator[bytes]:
        rows: list[tuple[str, str, int]] = []
        opening = b"["
        for row in self._desk.ledger.tally.accepted():
            rows.append(row)
            if len(rows) == ROWS:
                yield opening + orjson.dumps(rows)[1:-1]
                opening, rows = b",", []
                await asyncio.sleep(0)
        if rows or opening == b"[":
            yield (opening if rows else b"[") + orjson.dumps(rows)[1:-1]
        yield b"]"

    def clear(self, _: Request) -> Answer:
        """DELETE /ledger: start afresh, inbox and all. Faults stay."""
        self._desk.clear()
        return Answer(204)

    # -- faults --

    def put_faults(self, request: Request) -> Answer:
        """PUT /faults: these instead of those before."""
        try:
            script = FaultScript.model_validate_json(request.body)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            said = {"title": "The fault script is not valid", "status": 422, "errors": problems}
            return Answer(422, orjson.dumps(said), "application/problem+json")
        self._desk.faults.put(script.faults)
        return self.faults(request)

    def faults(self, _: Request) -> Answer:
        """GET /faults: what is in force, and how often each has struck."""
        return Answer.of({"faults": self._faults()})

    def _faults(self) -> list[dict[str, Any]]:
        return [
            {**fault.spec.model_dump(mode="json", exclude_defaults=True), "struck": fault.struck}
            for fault in self._desk.faults.faults
        ]

    def delete_faults(self, _: Request) -> Answer:
        """DELETE /faults: nothing goes wrong any more."""
        self._desk.faults.put(())
        return Answer(204)

    # -- inbox --

    def page(self, _: Request) -> Answer:
        """GET /: what people would see."""
        nonce = secrets.token_urlsafe(16)
        html = self._templates.get_template("inbox.html").render(
            nonce=nonce,
            inbox=self._desk.inbox,
            summary=self._desk.ledger.tally.summary(),
            faults=[orjson.dumps(fault).decode() for fault in self._faults()],
            simulated=SIMULATED,
            addresses=self._addresses(),
        )
        headers = {**NO_STORE, "Content-Security-Policy": PAGE_CSP.format(nonce=nonce), "X-Frame-Options": "DENY"}
        return Answer(200, html.encode(), "text/html; charset=utf-8", headers)

    def css(self, _: Request) -> Answer:
        return Answer(200, self._css, "text/css; charset=utf-8", dict(NO_STORE))

    def inbox(self, _: Request) -> Answer:
        """GET /inbox.json: the same for programs."""
        return Answer.of(self._desk.inbox.as_json())

    def mail(self, request: Request) -> Answer:
        """GET /inbox/mail/{seq}: one mail as its reader sees it, for a sandboxed frame."""
        text = request.path.removeprefix("/inbox/mail/")
        item = self._desk.inbox.mail(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else None
        if item is None:
            return Answer.of({"message": "no such mail in the inbox (it keeps the last 200)"}, 404)
        html = item.shown["html"]
        if html is None:
            html = (
                '<!doctype html><meta charset="utf-8"><pre style="white-space:pre-wrap;font:15px/1.5 system-ui,'
                f'sans-serif;margin:24px;color:#1c2333">{escape(item.shown["text"] or "(an empty mail)")}</pre>'
            )
        headers = {**NO_STORE, "Content-Security-Policy": MAIL_CSP}
        return Answer(200, html.encode("utf-8", "replace"), "text/html; charset=utf-8", headers)

    def index(self, _: Request) -> Answer:
        """GET /recipients: the simulated recipients."""
        return Answer.of({"recipients": {name: entry.says for name, entry in SIMULATED.items()}})

    def livez(self, _: Request) -> Answer:
        """GET /livez"""
        return Answer.of({"status": "ok"})


def _count(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadQuery(f"{name} must be a whole number")
    return int(text)


def _bad(message: str) -> Answer:
    return Answer.of({"title": "The query is not valid", "status": 400, "detail": message}, 400)


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")
