"""Lambda's Runtime API for one process, on a loopback port: it serves the next event and takes responses and errors."""

from __future__ import annotations

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker_localstack.instance import Instance

PREFIX = "/2018-06-01/runtime"
SAID = re.compile(PREFIX + "/invocation/(?P<id>[^/]+)/(?P<what>response|error)")


class RuntimeApi:
    """A server that runs as long as its process."""

    def __init__(self, instance: Instance) -> None:
        handler = type("Handler", (_Handler,), {"instance": instance})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.5,), name="runtime-api", daemon=True).start()

    def close(self) -> None:
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address) -> None:  # noqa: ARG002 - of the base class
        # A killed process leaves broken connections behind; the watcher reports its death.
        return


class _Handler(BaseHTTPRequestHandler):
    instance: Instance
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}/invocation/next":
            self._answer(404, b"{}")
            return
        event = self.instance.next_event()
        if event is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(event.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": event.arn,
            "Lambda-Runtime-Trace-Id": event.trace,
        }
        self._answer(200, event.payload, headers)

    def do_POST(self) -> None:
        body = self._body()
        known = False
        if self.path == f"{PREFIX}/init/error":
            self.instance.init_failed(body)
            known = True
        elif said := SAID.fullmatch(self.path):
            known = self.instance.settle(said["id"], body, is_error=said["what"] == "error")
        self._answer(202 if known else 400, b'{"status":"OK"}' if known else b'{"errorMessage":"unknown request id"}')

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args) -> None:  # noqa: A002, ARG002 - of the base class
        return
