"""A web server on the loopback interface, for tests: it serves a folder, well or badly."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FileServer:
    """What a server does, and what it was asked for.

    Attributes:
        folder: What it serves.
        url: Where.
        supports_ranges: Whether it answers a request of a range with that range, and not with the whole file.
        cut_bytes: Bytes after which it hangs up within an answer; None: never.
        version_header: In which header it tells the version of a file; empty: in none.
        broken: Names of files that it fails to serve, every time.
        stuck: Names of files of which it sends no range, as long as they stand here, and lets whoever asks wait.
        failures: Requests that it answers with an error before it serves any.
        requests: (method, name, range) of each request.
        sent_bytes: Bytes of content that it sent.
    """

    folder: Path
    url: str = ""
    supports_ranges: bool = True
    cut_bytes: int | None = None
    version_header: str = "ETag"
    broken: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    failures: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    sent_bytes: int = 0


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """Yields a server that runs in a thread."""
    served = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            _answer(self, served)

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # who asked may be gone by now
                _answer(self, served)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.stuck = ()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, served: FileServer) -> None:
    wanted = handler.headers.get("Range", "")
    served.requests.append((handler.command, handler.path, wanted))
    if served.failures:
        served.failures -= 1
        _send(handler, 503, b"")
        return
    if handler.path.lstrip("/") in served.broken:
        _send(handler, 500, b"")
        return
    while wanted and handler.path.lstrip("/") in served.stuck:
        time.sleep(0.01)
    path = served.folder / handler.path.lstrip("/")
    if not path.is_file():
        _send(handler, 404, b"")
        return
    content = path.read_bytes()
    tag = {served.version_header: f'"{path.stat().st_mtime_ns}"'} if served.version_header else {}
    bounds = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if bounds is None or not served.supports_ranges:
        headers = tag if served.supports_ranges else {**tag, "Accept-Ranges": "none"}
        _send(handler, 200, content, headers, served)
        return
    first, last = int(bounds[1]), int(bounds[2] or len(content) - 1)
    if first >= len(content):
        _send(handler, 416, b"")
        return
    piece = content[first : last + 1]
    place = f"bytes {first}-{first + len(piece) - 1}/{len(content)}"
    _send(handler, 206, piece, {**tag, "Content-Range": place}, served)


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    served: FileServer | None = None,
) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if served is not None and served.cut_bytes is not None:
        content = content[: served.cut_bytes]
        handler.close_connection = True
    if served is not None:
        served.sent_bytes += len(content)  # before it is sent: whoever has got it may look here at once
    handler.wfile.write(content)
