"""A hostile OpenAI server on loopback, which lives as long as a test and does to each request what a script says."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

MODEL = "tiny-ranker"


@dataclass(frozen=True)
class Call:
    """One request as it arrived.

    Attributes:
        number: How many arrived before it.
        path: Where it was sent to, such as ``/v1/completions``.
        headers: Its headers, with lower-case names.
        body: Its body; None for a GET.
        attempt: How many with the same path and body arrived before it.
    """

    number: int
    path: str
    headers: Mapping[str, str]
    body: Any
    attempt: int


@dataclass(frozen=True)
class Reply:
    """What the server does to one request.

    Attributes:
        body: A JSON value, or bytes that are sent as they are.
        status: The status.
        headers: Further headers; they win over the server's own.
        delay: Seconds before the answer.
        drip: Seconds before each byte of the body.
        missing: How many bytes are promised that never come; the connection is closed after the others.
        hang_up: Close the connection without a word.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    missing: int = 0
    hang_up: bool = False


Script = Callable[[Call], Reply]

#: What makes OpenAI's client try again at once; none of its pauses is longer than this.
SOON = {"retry-after-ms": "1"}


def failure(status: int, message: str = "no", **more: Any) -> Reply:
    """Return an error as OpenAI's API words it, to be tried again at once where it can be."""
    return Reply({"error": {"message": message, "type": "test", "code": None}}, status=status, headers=SOON, **more)


def served_models(*models: Mapping[str, Any]) -> Reply:
    """Return an answer of ``/v1/models``."""
    return Reply({"object": "list", "data": [{"object": "model", "created": 1, "owned_by": "t", **m} for m in models]})


def completion(
    text: str,
    *,
    token_ids: Sequence[int] | None = None,
    top_logprobs: Sequence[Mapping[str, float]] | None = None,
    finish_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
) -> Reply:
    """Return a right answer of ``/v1/completions``, as vLLM words it where tokens are given."""
    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None}
    if token_ids is not None:
        choice["token_ids"] = list(token_ids)
    if top_logprobs is not None:
        choice["logprobs"] = {"top_logprobs": list(top_logprobs), "tokens": [], "token_logprobs": [], "text_offset": []}
    return Reply(
        {"id": "c", "object": "text_completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
    )


def chat(
    content: str | None,
    *,
    logprobs: Any = None,
    finish_reason: str = "stop",
    usage: Mapping[str, Any] | None = None,
) -> Reply:
    """Return a right answer of ``/v1/chat/completions``."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": logprobs}
    return Reply(
        {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
    )


class FakeServer:
    """Listens on a port of its own from ``with`` to its end; what went wrong in a script is raised there.

    Args:
        script: What to do to each request for a completion.
        models: What to do to a request for the models.

    Attributes:
        calls: Every request that arrived, in order.
        in_flight: Requests that wait for their answer now.
        peak: Most that ever did.
    """

    def __init__(self, script: Script, *, models: Script | None = None) -> None:
        self._script = script
        self._models = models or (lambda call: served_models({"id": MODEL, "max_model_len": 8192}))
        self.calls: list[Call] = []
        self.in_flight = self.peak = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._errors: list[BaseException] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True)

    @property
    def url(self) -> str:
        """What to give as ``base_url``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def asked(self) -> list[Call]:
        """The requests for completions."""
        return [call for call in self.calls if call.body is not None]

    @property
    def bodies(self) -> list[Any]:
        """Their bodies."""
        return [call.body for call in self.asked]

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()
        if error is None and self._errors:
            raise self._errors[0]

    def die(self) -> None:
        """Stop listening, and cut every connection, whatever is under way; doing it again does nothing."""
        with self._lock:
            again = self._ended.is_set()
            self._ended.set()
        if again:
            self._thread.join(timeout=20)
            return
        self._server.cut_all()
        self._server.shutdown()
        self._server.server_close()
        # Those that were accepted in between.
        self._server.cut_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=20)

    def answer(self, path: str, headers: Mapping[str, str], raw: bytes | None) -> Reply | None:
        """Note a request and return what to do to it; None for nothing, since the server died."""
        with self._lock:
            key = f"{path} {raw!r}"
            body = None if raw is None else json.loads(raw)
            call = Call(len(self.calls), path, dict(headers), body, self._seen[key])
            self._seen[key] += 1
            self.calls.append(call)
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        try:
            if path.endswith("/models"):
                reply = self._models(call)
            elif path.endswith("/completions"):
                reply = self._script(call)
            else:
                reply = failure(404, f"no {path} here")
            return None if self._ended.wait(reply.delay) else reply
        except BaseException as error:  # noqa: BLE001 - told to the test when it ends
            self._errors.append(error)
            return None
        finally:
            with self._lock:
                self.in_flight -= 1

    def pause(self, seconds: float) -> bool:
        """Wait, and tell whether the server still lives."""
        return not self._ended.wait(seconds)

    def note(self, error: BaseException) -> None:
        """Keep an error of a handler for the end, unless it is only that a connection was cut."""
        if not isinstance(error, OSError) and not self._ended.is_set():
            self._errors.append(error)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    owner: FakeServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.owner.note(error)

    def cut_all(self) -> None:
        for connection in list(self._open):
            # It may have been closed by its handler in between.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment an answer, not a header that waits for its acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._do(None)

    def do_POST(self) -> None:
        self._do(self.rfile.read(int(self.headers["Content-Length"])))

    def _do(self, raw: bytes | None) -> None:
        owner = cast("_Server", self.server).owner
        reply = owner.answer(self.path, {name.lower(): value for name, value in self.headers.items()}, raw)
        if reply is None or reply.hang_up:
            self.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body) + reply.missing)}
        self.send_response(reply.status)
        for name, value in {**headers, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [bytes([byte]) for byte in body] if reply.drip else [body]:
            if reply.drip:
                self.wfile.flush()
                if not owner.pause(reply.drip):
                    break
            self.wfile.write(piece)
        self.wfile.flush()
        self.close_connection = self.close_connection or bool(reply.missing)
