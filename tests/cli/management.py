"""A management server that answers what it was told to, over a Unix socket, and remembers what it was asked."""

import json
import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HUB_ID = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/isthmus/providers/Microsoft.Devices/IotHubs/hub"
)
KEY = "a2V5LWtleS1rZXkta2V5LWtleS1rZXkta2V5LWtleSE="
POLICIES = [
    {"keyName": "iothubowner", "primaryKey": KEY, "secondaryKey": "c2Vjb25k", "rights": "RegistryRead, RegistryWrite"},
    {"keyName": "service", "primaryKey": "c2VydmljZQ==", "secondaryKey": "c2Vydg==", "rights": "ServiceConnect"},
]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What a request is answered with."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[Any] | None = None


class FakeManagement:
    """Listens on `DATA/management.sock` until closed."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.asked: list[Asked] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._server = _UnixServer(str(data / "management.sock"), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.on("GET", "/hubs", [{"name": "hub", "hostName": "hub.isthmus.test"}])
        self.on("POST", f"{HUB_ID}/listkeys", {"value": POLICIES})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> None:
        """Queues an answer; the last one of a path is given again and again."""
        self._replies.setdefault((method, path), []).append(Reply(status, body, **more))

    def set(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> None:
        """Replaces the answers of a path."""
        self._replies[method, path] = [Reply(status, body, **more)]

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def reply_to(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        replies = self._replies.get((asked.method, asked.path))
        if not replies:
            return Reply(404, {"Message": f"ErrorCode:GenericNotFound;{asked.method} {asked.path}"})
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        management = self

        class Handler(_Handler):
            def answer(self, asked: Asked) -> Reply:
                return management.reply_to(asked)

        return Handler


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.answer(
            Asked(
                method=self.command,
                path=parts.path,
                query={name: values[0] for name, values in parse_qs(parts.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(body) if body else None,
            )
        )
        self.close_connection = True
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body) if reply.body is not None else ""
        if reply.lines is None:
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())
        for line in reply.lines or ():
            self.wfile.write(json.dumps(line).encode() + b"\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
        pass
