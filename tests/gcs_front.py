"""A front that speaks Google's XML API for storage, with an S3 server behind it: `python -m tests.gcs_front PORT S3`.

Shows that what a client sends has the shape that Google wants; knows neither who sends it (a token or a signature must be
there, it is not checked) nor how Google behaves under load. Keys of the S3 server come from AWS_*.
"""

from __future__ import annotations

import http.client
import os
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PASSED_ON = {
    "content-type",
    "content-disposition",
    "content-encoding",
    "cache-control",
    "range",
    "if-match",
    "if-none-match",
}
GIVEN_BACK = PASSED_ON | {"content-range", "etag", "last-modified", "accept-ranges"}
DENIED = b"<Error><Code>AccessDenied</Code><Message>Anonymous caller.</Message></Error>"
UNMET = b"<Error><Code>PreconditionFailed</Code><Message>At least one did not hold.</Message></Error>"
NO_KEY = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"


class Unsigned(S3SigV4Auth):
    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


def generation(answer: http.client.HTTPResponse) -> str:
    """Of the object that the answer is about; 0 where there is none."""
    etag = answer.headers.get("ETag")
    return str(zlib.crc32(etag.encode())) if etag else "0"


class Backend:
    """The S3 server behind."""

    def __init__(self, endpoint: str) -> None:
        self.host = urlsplit(endpoint).netloc
        keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        self.auth = Unsigned(keys, "s3", "us-east-1")
        self.local = threading.local()

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> tuple[http.client.HTTPResponse, bytes]:
        target = quote(unquote(path), safe="/~") + (f"?{query}" if query else "")
        request = AWSRequest(method, f"http://{self.host}{target}", headers=headers or {})
        self.auth.add_auth(request)
        connection = getattr(self.local, "connection", None) or http.client.HTTPConnection(
            self.host, timeout=60
        )
        self.local.connection = connection
        connection.request(method, target, body=body or None, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        return answer, answer.read()


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend: Backend
    conditional = (
        threading.Lock()
    )  # conditions of Google that the S3 server does not have: looked at, then done

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qsl(address.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = any(name == "X-Goog-Signature" for name, _ in asked)
        if not signed and not self.headers.get("Authorization", "").startswith("Bearer "):
            self.answer(401, {}, DENIED)
            return
        query = urlencode([one for one in asked if not one[0].startswith("X-Goog-")], quote_via=quote)
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is None and (self.command != "DELETE" or query):
            self.pass_on(address.path, query, body)
            return
        with self.conditional:
            found = generation(self.backend.ask("HEAD", address.path)[0])
            if wanted not in (None, found):
                self.answer(412, {}, UNMET)
            elif self.command == "DELETE" and found == "0":
                self.answer(404, {}, NO_KEY)
            else:
                self.pass_on(address.path, query, body)

    def pass_on(self, path: str, query: str, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() in PASSED_ON}
        if source := self.headers.get("x-goog-copy-source"):
            headers["x-amz-copy-source"] = source
        answer, content = self.backend.ask(self.command, path, query, headers, body)
        given = {name: value for name, value in answer.headers.items() if name.lower() in GIVEN_BACK}
        if answer.headers.get("ETag"):
            given["x-goog-generation"] = generation(answer)
        if self.command == "HEAD":
            given["Content-Length"] = answer.headers.get("Content-Length", "0")
        self.answer(answer.status, given, content)

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request


if __name__ == "__main__":
    Front.backend = Backend(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Front).serve_forever()
