"""A connection to a server that speaks OpenAI's API: what is sent again, and when, and what no message may show."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import urlsplit

from unified_ranker.backends.openai_answers import Malformed
from unified_ranker.errors import BackendError, OptionError, missing_extra

T = TypeVar("T")

# What a server without authentication gets, since the client insists on sending one.
NO_KEY = "none"
# Seconds before a malformed answer is asked for again; doubled each time, up to the second figure.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
# The longest pause that the client grants a server that asks for one.
_LONGEST_REQUESTED = 120.0
# Shorter keys are none: people give "x" or "EMPTY" to servers of their own.
_SECRET = 8
# Characters of a server's words that a message shows.
_SHOWN = 500


class Connection:
    """Sends requests, a few at a time, again where that may help.

    Args:
        client: An ``openai.AsyncOpenAI``.
        concurrency: Most requests at the same time.
        timeout: Seconds that the body of an answer may take.
        retries: How often a request that failed is sent again.
    """

    def __init__(self, client: Any, *, concurrency: int, timeout: float, retries: int) -> None:
        self._client, self._timeout, self._retries = client, timeout, retries
        self._free = asyncio.Semaphore(concurrency)

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self._client.base_url)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def sent(self, send: Callable[[Any], Any], *, read: Callable[[str], T]) -> T:
        """Send a request, again where that may help, and return what was read of its answer.

        Args:
            send: Sends it with a client, and returns the raw answer.
            read: Reads the text of an answer.

        Raises:
            BackendError: the server refused, could not be reached, or gave nothing but malformed answers.
        """
        import openai

        left, malformed, pause = self._retries, 0, FIRST_PAUSE
        while True:
            taken = 0
            try:
                # The client waits for each piece of an answer, not for its end: a server that drips would hold it for
                # ever. Until it comes to the body it may send again, with pauses that the server asks for.
                until_body = (left + 1) * self._timeout + left * _LONGEST_REQUESTED
                async with self._free, AsyncExitStack() as stack:
                    sending = send(self._client.with_options(max_retries=left))
                    raw = await asyncio.wait_for(stack.enter_async_context(sending), until_body)
                    taken = raw.retries_taken
                    body = await asyncio.wait_for(raw.read(), self._timeout)
                return read(body.decode("utf-8"))
            except openai.APIStatusError as error:
                raise BackendError(
                    f"the server at {self.url} refused a request with status {error.status_code}: {self._clean(error)}"
                ) from None
            except openai.APIConnectionError as error:
                raise BackendError(
                    f"the server at {self.url} could not be reached after {self._retries + 1} attempts: "
                    f"{self._clean(error)} {self._clean(error.__cause__ or '')}".rstrip()
                ) from None
            except (asyncio.TimeoutError, _http_error()) as error:
                left -= taken + 1
                if left < 0:
                    what = self._clean(error) or f"no end of its answer in {self._timeout:g} s (timeout)"
                    raise BackendError(
                        f"the server at {self.url} could not be reached after {self._retries + 1} attempts: {what}"
                    ) from None
            except (Malformed, UnicodeDecodeError) as error:
                malformed += 1
                left -= taken + 1
                if left < 0:
                    raise BackendError(
                        f"the server at {self.url} gave {malformed} malformed answers, the last: {self._clean(error)}"
                    ) from None
            await asyncio.sleep(pause * random.uniform(0.75, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def hide(self, text: str) -> str:
        """Return a text without the key, whoever put it there, also as JSON and Python write it."""
        key = str(self._client.api_key)
        if len(key) < _SECRET:
            return text
        for form in (key, json.dumps(key)[1:-1], repr(key)[1:-1], repr(json.dumps(key)[1:-1])[1:-1]):
            text = text.replace(form, "***")
        return text

    def _clean(self, error: object) -> str:
        """Return a message as it may be shown."""
        return self.hide(str(error))[:_SHOWN]


def check_address(name: str, address: object) -> None:
    """Check the address of a server; None is the client's own.

    Raises:
        OptionError: it is none.
    """
    if address is None:
        return
    mend = "must be an address such as http://127.0.0.1:8000/v1"
    if not isinstance(address, str) or not (address.isascii() and address.isprintable()):
        raise OptionError(f"{name}={address!r} {mend}")
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise OptionError(f"{name}={address!r} {mend}")


def make_client(base_url: str | None, key_variable: str, *, timeout: float, retries: int) -> Any:
    """Return an ``openai.AsyncOpenAI`` with the key of an environment variable.

    Raises:
        MissingExtraError: the package ``openai`` is not installed.
        BackendError: the key is missing where one is needed, or cannot be sent.
    """
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise missing_extra("openai", package="openai", purpose="backend='openai'") from error
    key = os.environ.get(key_variable) or None
    if key is None and base_url is None and not os.environ.get("OPENAI_BASE_URL"):
        raise BackendError(
            f"no key: set the environment variable {key_variable}, or give base_url for a server that needs none"
        )
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise BackendError(
            f"the key in {key_variable} holds a character that cannot be sent, such as a blank or a new line at its end"
        )
    return AsyncOpenAI(api_key=key or NO_KEY, base_url=base_url, timeout=timeout, max_retries=retries)


def _http_error() -> type[Exception]:
    """Return the root of the errors of the HTTP library, which is another in each generation of the client."""
    import openai

    roots = [base.__module__.partition(".")[0] for base in openai.DefaultAsyncHttpxClient.__mro__]
    found: type[Exception] = import_module(next(root for root in roots if root.startswith("httpx"))).HTTPError
    return found
