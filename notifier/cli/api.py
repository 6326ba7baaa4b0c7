"""The HTTP API, as commands call it: like everybody else, with a key."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import orjson
import typer

from notifier.domain.errors import FieldProblem, Invalid, NotifierError, ServerUnreachable
from notifier.settings import load

if TYPE_CHECKING:
    import aiohttp

Key = Annotated[str | None, typer.Option(envvar="NOTIFIER_API_KEY", help="API key.", show_envvar=True)]
Url = Annotated[str | None, typer.Option(help="Of the API; NOTIFIER_PUBLIC_URL if unset.")]
IdempotencyKey = Annotated[str | None, typer.Option(help="The same key again makes nothing again.")]

TIMEOUT_SECONDS = 30


class Refused(NotifierError):
    """The API refused the request."""

    code = "refused"


class Api:
    """Calls one API with one key; every failure is one line that says what to do."""

    def __init__(self, key: str | None, url: str | None) -> None:
        if not key:
            raise Invalid("Give an API key: --key or NOTIFIER_API_KEY. `notifier keys create NAME` makes one.")
        _check_header(key)
        self._key = key
        self._url = url or load().public_url
        if not self._url.startswith(("http://", "https://")):
            raise Invalid(
                f"The API's URL must begin with http:// or https://, which {self._url!r} does not: see --url."
            )
        self._url = self._url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, *, has: str = "id", idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """The JSON object that it answers with. One without the field `has` is no answer of ours."""
        import aiohttp

        assert self._session is not None
        if idempotency_key is not None:
            _check_header(idempotency_key)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        data = None if body is None else as_json(body)
        try:
            async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
                return _object(await answer.read(), answer.status, has, str(answer.url.origin()))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerUnreachable(
                f"The API at {self._url} does not answer ({type(error).__name__}). "
                "Is `notifier up` or `notifier api` running?"
            ) from None


def as_json(value: Any) -> bytes:
    """A body as it is sent; Invalid if it has bytes that are no text, from a terminal."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise Invalid(f"The request cannot be written as JSON ({error}).") from None


def read_json(text: str, *, option: str, example: str) -> Any:
    """What somebody has typed as JSON; Invalid names the option and shows how it is quoted."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"{option} is not JSON ({error}). Quote it like this: {option} '{example}'") from None


def _check_header(value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise Invalid("The API key and the idempotency key must be printable ASCII.")


def _object(raw: bytes, status: int, has: str, origin: str) -> dict[str, Any]:
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        said = None
    if isinstance(said, dict) and status >= 400 and "code" in said:
        fields = [FieldProblem(tuple(f["loc"]), f["code"], f["message"]) for f in said.get("errors", ())]
        raise Refused(f"{said['code']}: {said['detail']}", fields=fields)
    if not isinstance(said, dict) or has not in said:
        raise Refused(f"{origin} is not the API: it answered {status}. Check --url.")
    return said
