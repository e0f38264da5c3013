#!/usr/bin/env python3
"""A git server for demo and tests: git's own http-backend behind Python's HTTP server.

    git-server.py --root DIR [--listen ADDRESS:PORT] [--token TOKEN]

Serves every repository under DIR, read only, at http://ADDRESS:PORT/<path>. Any commit may be
asked for by its hash, as on GitHub. With --token it answers only to that password (any user) or
bearer token. The first line on standard output is the address it listens on; it ends with its
standard input, so that it never outlives the program that started it.
"""

import argparse
import base64
import hmac
import os
import subprocess  # nosec B404
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import urlsplit

MAX_BODY = 8 << 20
MAX_CHUNK_LINE = 64


class Handler(BaseHTTPRequestHandler):
    """One request, as a CGI request to git."""

    protocol_version = "HTTP/1.1"
    root = Path()
    token = ""

    def do_GET(self) -> None:
        """What git asks first."""
        self._answer(b"")

    def do_POST(self) -> None:
        """What git asks for a pack."""
        body = self._body()
        if body is None:
            self._refuse(413, "too large")
        else:
            self._answer(body)

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts: list[bytes] = []
            while size := int(self.rfile.readline(MAX_CHUNK_LINE).split(b";")[0], 16):
                if sum(map(len, parts)) + size > MAX_BODY:
                    self.close_connection = True
                    return None
                parts.append(self.rfile.read(size))
                self.rfile.readline(MAX_CHUNK_LINE)
            self.rfile.readline(MAX_CHUNK_LINE)
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return None
        return self.rfile.read(length)

    def _allowed(self) -> bool:
        if not self.token:
            return True
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value).decode().partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(value.encode(), self.token.encode())

    def _answer(self, body: bytes) -> None:
        if not self._allowed():
            self._refuse(401, "a token is needed")
            return
        url = urlsplit(self.path)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_HTTP_MAX_REQUEST_BUFFER": str(MAX_BODY),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": "3",
            "GIT_CONFIG_KEY_0": "uploadpack.allowAnySHA1InWant",
            "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_1": "true",
            # The repositories may belong to another user than this server's.
            "GIT_CONFIG_KEY_2": "safe.directory",
            "GIT_CONFIG_VALUE_2": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": self.client_address[0],
        }
        done = subprocess.run(  # nosec B603 B607
            ["git", "http-backend"],
            input=body,
            env=environment,
            capture_output=True,
            check=False,
        )
        head, separator, content = done.stdout.partition(b"\r\n\r\n")
        if not separator:
            self._refuse(500, done.stderr.decode(errors="replace").strip()[:500])
            return
        fields = [line.split(": ", 1) for line in head.decode("latin-1").splitlines()]
        status = next((v for k, v in fields if k.lower() == "status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in fields:
            if name.lower() != "status":
                self.send_header(name, value)
        self._send(content)

    def _refuse(self, status: int, why: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Type", "text/plain")
        self._send(why.encode())

    def _send(self, content: bytes) -> None:
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """Binds without asking for the address's name, which may take long."""

    daemon_threads = True

    def server_bind(self) -> None:
        """As for any TCP server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--token", default="")
    given = parser.parse_args()
    address, _, port = given.listen.rpartition(":")
    Handler.root = given.root.resolve()
    Handler.token = given.token
    server = Server((address, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{address}:{server.server_address[1]}", flush=True)
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
