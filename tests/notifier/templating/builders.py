"""Templates folders made for a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notifier.domain.content import DesktopContent, EmailContent, PushContent
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating import Extra, Template, load, render

SHIPPED = Path(__file__).parents[3] / "templates"

CARD = """
title = "A note"
category = "notes"
priority = "bulk"
expires_in = 3600
channels = {channels}
{more}
"""


def a_folder(
    root: Path, files: Mapping[str, str], *, name: str = "note", channels: str = '["email"]', more: str = ""
) -> Path:
    """A templates folder with one template made of `files`; a key with a slash stands beside the template."""
    files = {"template.toml": CARD.format(channels=channels, more=more), **files}
    for file, text in files.items():
        path = root / file if "/" in file else root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def a_mail(
    root: Path, *, subject: str = "s", html: str = "<p>h</p>", text: str = "t", variables: str = "value", **files: str
) -> Template:
    """A template with a mail of these parts; `variables` are optional texts."""
    more = "".join(
        f'[variables.{name}]\ntype = "string"\nmax_length = 20000\ndefault = ""\n' for name in variables.split()
    )
    parts = {"email.subject.txt": subject, "email.html": html, "email.txt": text}
    return load(a_folder(root, parts | files, more=more)).get("note")


def a_list_mail(root: Path, html: str) -> Template:
    """A mail with one variable, a list."""
    more = '[variables.rows]\ntype = "list"\nexample = []\n'
    return load(a_folder(root, {"email.subject.txt": "s", "email.html": html, "email.txt": "t"}, more=more)).get("note")


def a_push(root: Path, **values: Any) -> Template:
    """A template with a push part of these values, and one text variable `value`."""
    document = json.dumps({"title": "t", "body": "b"} | values)
    more = '[variables.value]\ntype = "string"\nmax_length = 20000\ndefault = ""\n'
    return load(a_folder(root, {"push.json": document}, channels='["push"]', more=more)).get("note")


def mail_of(template: Template, data: Mapping[str, Any] | None = None, **more: Any) -> EmailContent:
    content = _rendered(template, Channel.EMAIL, data, **more)
    assert isinstance(content, EmailContent)
    return content


def html_of(template: Template, data: Mapping[str, Any] | None = None, **more: Any) -> str:
    html = mail_of(template, data, **more).html
    assert html is not None
    return html


def push_of(template: Template, data: Mapping[str, Any] | None = None, **more: Any) -> PushContent:
    content = _rendered(template, Channel.PUSH, data, **more)
    assert isinstance(content, PushContent)
    return content


def desktop_of(template: Template, data: Mapping[str, Any] | None = None, **more: Any) -> DesktopContent:
    content = _rendered(template, Channel.DESKTOP, data, **more)
    assert isinstance(content, DesktopContent)
    return content


def _rendered(
    template: Template,
    channel: Channel,
    data: Mapping[str, Any] | None,
    *,
    recipient: Recipient | None = None,
    locale: str | None = None,
    extra: Extra | None = None,
) -> EmailContent | PushContent | DesktopContent:
    return render(
        template,
        channel,
        data=data or {},
        recipient=recipient or Recipient(id=7),
        locale=locale,
        extra=extra or {"brand": "Acme"},
    )
