"""One page, and what it asks for, behind one secret address of this machine.

Nothing else is served, and nothing of a request is repeated in an answer. A page of another site
cannot read this one: it does not know the secret, and a name of its own that leads here (DNS
rebinding) is refused by the Host header.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import re
import secrets
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from tailbound.core.outside import visible
from tailbound.errors import UsageError
from tailbound.workflows.report.html import policy
from tailbound.workflows.view.live import LiveReport

ADDRESS = "127.0.0.1"
SECONDS = 10.0
"""A connection that says nothing for so long is closed."""
MOST = 32
"""Connections at once; more are closed unread."""
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
"""Any port: a tunnel from another machine has its own."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""With every answer, besides a Content-Security-Policy."""


class ReportServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves a `LiveReport` at `url` until it is interrupted.

    Raises `UsageError` where the port is in use or not allowed.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"
    request_queue_size = MOST

    def __init__(self, report: LiveReport, *, port: int, complain: Callable[[str], None]) -> None:
        self.report, self.complain = report, complain
        self.token = secrets.token_urlsafe(32)
        self._free = threading.BoundedSemaphore(MOST)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise UsageError(
                f"port {port} of {ADDRESS}: {reason}; take another --port, or leave it out"
            ) from error

    @property
    def url(self) -> str:
        """The address of the page; whoever knows it can read the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As usual; makes room at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    timeout = SECONDS

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"Forbidden\n")
            return
        asked, page = self.path.encode(), f"/{self.server.token}/".encode()
        is_page, is_status = (hmac.compare_digest(asked, one) for one in (page, page + b"status"))
        if not (is_page or is_status):
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"Not found\n")
            return
        try:
            if is_page:
                kind, body = "text/html", self.server.report.page()
            else:
                kind, body = "application/json", json.dumps(self.server.report.status()).encode()
        except Exception as error:
            self.server.complain(visible(f"the page cannot be made: {error!r}"))
            body = b"The page cannot be made: the terminal says why.\n"
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", body)
            return
        self._send(HTTPStatus.OK, kind, body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        admits = policy(live=True) if kind == "text/html" else "default-src 'none'"
        self.send_header("Content-Security-Policy", f"{admits}; frame-ancestors 'none'")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses, without its words, which repeat the request."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # a method that we lack
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        self._send(status, "text/plain", f"{status.phrase}\n".encode())

    def version_string(self) -> str:
        """Nothing about versions."""
        return "tailbound"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an address in a log would be a secret in a log."""
