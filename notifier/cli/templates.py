"""`notifier templates`: look at templates before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from notifier.cli.options import DataDir, Json, use
from notifier.domain.content import EmailContent
from notifier.domain.errors import Invalid
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.settings import load

app = typer.Typer(help="Check and preview templates.", no_args_is_help=True)


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(help="NOTIFIER_TEMPLATES_DIR if unset.")] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Find missing variables, missing parts and broken HTML. Exit 1 if anything is wrong."""
    use(data_dir)
    from notifier.templating import check as check_folder

    findings = check_folder(folder or load().templates_dir)
    if json:
        typer.echo(orjson.dumps([str(finding) for finding in findings]).decode())
    else:
        for finding in findings:
            typer.echo(str(finding))
        if not findings:
            typer.echo("Every template is in order.")
    if findings:
        raise typer.Exit(1)


@app.command()
def preview(
    name: Annotated[str, typer.Argument(help="Name of the template.")],
    channel: Annotated[Channel, typer.Option(help="Which channel.")] = Channel.EMAIL,
    locale: Annotated[str | None, typer.Option(help="Such as de.")] = None,
    data: Annotated[str | None, typer.Option(help="Variables as JSON; the template's examples if unset.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Print a mail's HTML instead of its text.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Render a template as a recipient would see it. Sends nothing."""
    use(data_dir)
    from notifier import bootstrap
    from notifier.templating import check_data, render

    settings = bootstrap.prepare()
    template = bootstrap.catalogue(settings).get(name)
    try:
        given = orjson.loads(data) if data else template.example_data()
    except orjson.JSONDecodeError as error:
        raise Invalid(f"--data is not JSON: {error}.") from None
    if not isinstance(given, dict):
        raise Invalid('--data must be a JSON object, such as {"amount": "12.50"}.')
    content = render(
        template,
        channel,
        data=check_data(template, given),
        recipient=Recipient(id=42, email="ada@example.com", locale=locale),
        locale=locale,
        extra=bootstrap.template_extra(settings),
    )
    if isinstance(content, EmailContent):
        shown: dict[str, Any] = {"subject": content.subject, "text": content.text, "html": content.html}
        text = (content.html or "") if html else f"Subject: {content.subject}\n\n{content.text}"
    else:
        shown = {"title": content.title, "body": content.body, "url": content.url, "data": dict(content.data)}
        text = "\n".join(f"{name}: {value}" for name, value in shown.items() if value)
    typer.echo(orjson.dumps(shown).decode() if json else text)
