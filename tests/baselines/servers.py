"""A server on this machine that misbehaves on demand, and the record of a dataset on it."""

import hashlib
import io
import json
import re
import socket
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

NUMBER = 4711  # of the record
CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves CONTENT under every path; what it does wrong is set from outside.

    refusals:  the status of each answer in turn; `status`: that of the later ones
    breaks:    after how many bytes each answer in turn is cut off
    length:    the length that it states, if that is wrong
    pages:     other contents, by path; if there are any, nothing else is served
    redirects: addresses elsewhere, by path
    token:     the access token that it asks for
    seen:      path and range of each request; `tokens`, whatever came as authorisation
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.status, self.refusals, self.breaks, self.length = CONTENT, 200, [], [], None
        self.etag, self.ranges, self.pages, self.seen = '"one"', True, {}, []
        self.redirects, self.token, self.tokens = {}, None, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # what was cut off on purpose


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        server.seen.append((path, self.headers.get("Range")))
        server.tokens.append(self.headers.get("Authorization"))
        if path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.pages.get(path, server.content) if not server.pages or path in server.pages else None
        status = server.refusals.pop(0) if server.refusals else server.status
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            status = 403
        if status != 200 or content is None:
            self.send_response(status if status != 200 else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        partial = start and server.ranges and self.headers.get("If-Range", server.etag) == server.etag
        rest = content[int(start[1]) :] if partial else content
        self.send_response(206 if partial else 200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(server.length or len(rest)))
        self.end_headers()
        end = server.breaks.pop(0) if server.breaks else None
        self.wfile.write(rest[:end])
        if end is not None or server.length:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@contextmanager
def serving():
    server = Server()
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def pack(files, **attributes):
    """A zip; `attributes` of each entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            for attribute, value in attributes.items():
                setattr(info, attribute, value)
            archive.writestr(info, content)
    return buffer.getvalue()


def entry(server, name, content):
    """As the API lists a file."""
    return {
        "id": "0",
        "key": name,
        "size": len(content),
        "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
        "links": {"self": f"{server.url}/api/records/{NUMBER}/files/{name}/content"},
    }


def publish(server, contents, **changes):
    """What the API answers; `changes` to the record itself."""
    record = {
        "id": NUMBER,
        "title": "BLEMORE \x1b[31m",
        "metadata": {"title": "BLEMORE", "access_right": "open", "license": {"id": "cc-by-nc-4.0"}},
        "files": [entry(server, name, content) for name, content in contents.items()],
    }
    server.pages = {f"/api/records/{NUMBER}/files/{name}/content": content for name, content in contents.items()}
    server.pages[f"/api/records/{NUMBER}"] = json.dumps({**record, **changes}).encode()
