"""A proxy between client and server that breaks requests as networks and servers do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: What can happen to a request. Unless it says `after`, the server never sees it.
FAULTS = (
    "drop", "drop after", "delay after", "truncate after",
    "500", "500 after", "502", "503", "429", "reset", "wrong etag", "no search",
)  # fmt: skip
#: What CKAN answers, with status 409, while its search index starts.
_NO_SEARCH = b'{"success": false, "error": {"__type": "Search Error", "message": "SOLR returned an error"}}'


@dataclass
class Request:
    """One request as it passed: its number, method, and path without the query."""

    number: int
    method: str
    path: str

    @property
    def kind(self) -> str:
        """What it is for, without ids."""
        parts = [part for part in self.path.split("/") if part]
        if self.path.startswith("/api/"):
            return parts[-1]
        return f"{self.method} {parts[0].partition('-')[0] if parts else ''}"


@dataclass
class Proxy:
    """Two listening ports, before the server and before the object store.

    Parameters
    ----------
    backends
        Addresses of server and object store.
    fault
        Says for each request what happens to it; nothing where it returns an empty text.
    passed_on
        Is told of each request that the server has begun to read.
    delay
        Seconds by which a delayed answer comes too late.
    """

    backends: tuple[str, str]
    fault: Callable[[Request], str] = lambda request: ""
    passed_on: Callable[[Request], None] = lambda request: None
    delay: float = 2.2
    seen: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    servers: list[ThreadingHTTPServer] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        """Addresses of the two ports."""
        return [f"http://127.0.0.1:{server.server_port}" for server in self.servers]

    @property
    def url(self) -> str:
        """Address to give to a client."""
        return self.urls[0]

    def rewritten(self, content: bytes) -> bytes:
        """Lead the client back to the proxy, wherever the server names its own addresses."""
        for behind, before in zip(self.backends, self.urls, strict=True):
            content = content.replace(behind.encode(), before.encode())
        return content

    def note(self, method: str, path: str) -> tuple[Request, str]:
        """Count a request; return it and what is to happen to it."""
        with self.lock:
            request = Request(len(self.seen), method, path.partition("?")[0])
            self.seen.append(request)
            return request, self.fault(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    backend: str

    def handle_any(self) -> None:
        """Pass a request on, or not."""
        self.close_connection = True
        request, fault = self.proxy.note(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault == "reset":
            self.rfile.read(length // 2)
            self.cut()
            return
        body = self.rfile.read(length)
        if fault == "drop":
            self.cut()
            return
        if fault.isdigit():
            self.answer(int(fault), [], b"<html>no</html>")
            return
        if fault == "no search":
            self.answer(409, [("Content-Type", "application/json")], _NO_SEARCH)
            return
        try:
            status, headers, content = self.forward(request, body)
        except (OSError, http.client.HTTPException):  # the server has gone
            self.cut()
            return
        if fault == "drop after":
            self.cut()
        elif fault == "delay after":
            time.sleep(self.proxy.delay)
            self.cut()
        elif fault == "500 after":
            self.answer(500, [], b"<html>no</html>")
        elif fault == "truncate after" and content:
            self.answer(status, headers, content[: len(content) // 2], len(content))
            self.cut()
        else:
            if fault == "wrong etag":
                headers = [
                    (k, '"0123456789abcdef0123456789abcdef"' if k == "ETag" else v) for k, v in headers
                ]
            self.answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def forward(self, request: Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the real server."""
        url = urlsplit(self.backend)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=120)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body, headers | {"Host": url.netloc})
        self.proxy.passed_on(request)
        answer = connection.getresponse()
        content = self.proxy.rewritten(answer.read())
        own = ("content-length", "connection", "transfer-encoding", "date", "server")
        kept = [
            (name, self.proxy.rewritten(value.encode("latin-1")).decode("latin-1"))
            for name, value in answer.getheaders()
            if name.lower() not in own
        ]
        connection.close()
        return answer.status, kept, content

    def answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None
    ) -> None:
        """Send an answer, or a part of it."""
        try:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            pass  # the client has gone

    def cut(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.rfile.close()

    def finish(self) -> None:
        """End a connection that may be cut already."""
        if not self.rfile.closed:
            super().finish()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Keep quiet where a client goes away."""

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection that may be cut already."""
        if request.fileno() >= 0:
            super().shutdown_request(request)


@contextmanager
def proxied(*backends: str) -> Iterator[Proxy]:
    """Give a proxy before server and object store."""
    proxy = Proxy((backends[0], backends[1]))
    for backend in proxy.backends:
        handler = type("Handler", (_Handler,), {"proxy": proxy, "backend": backend})
        server = _Server(("127.0.0.1", 0), handler)
        proxy.servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        for server in proxy.servers:
            server.shutdown()
            server.server_close()
