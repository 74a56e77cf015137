"""A model hub on this machine: the part of the Hugging Face hub's protocol that downloading a model needs."""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c0ffee" * 6 + "c0ff"


class FakeHub:
    """Server of repositories: folders ``root/owner/name``. ``address`` is its endpoint, for ``HF_ENDPOINT``.

    owner/gated is gated, and no repository has the revision v9.

    asked: the requests so far, as "GET /path". cut: file name -> bytes after which its next answer breaks off.
    """

    def __init__(self, root: Path):
        self.asked: list[str] = []
        self.cut: dict[str, int] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def log_message(self, *args):
                pass

            def answer(self, *, body):
                path = self.path.partition("?")[0]
                hub.asked.append(f"{self.command} {path}")
                if path == "/":
                    return self.send(200, b"hub", body)
                if re.search(r"/owner/gated(/|$)", path):
                    return self.missing("GatedRepo", 403)
                if re.search(r"/(revision|resolve|tree)/v9(/|$)", path):
                    return self.missing("RevisionNotFound")
                if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
                    folder = root / found[1]
                    if not folder.is_dir():
                        return self.missing("RepoNotFound")
                    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
                    about = {"id": found[1], "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                    return self.send(200, json.dumps(about).encode(), body)
                if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
                    files = sorted(p for p in (root / found[1]).rglob("*") if p.is_file())
                    tree = [
                        {"type": "file", "path": p.relative_to(root / found[1]).as_posix(), "size": len(p.read_bytes())}
                        | {"oid": hashlib.sha1(p.read_bytes()).hexdigest()}
                        for p in files
                    ]
                    return self.send(200, json.dumps(tree).encode(), body)
                if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                    if not (root / found[1]).is_dir():
                        return self.missing("RepoNotFound")
                    file = root / found[1] / found[2]
                    return self.file(file, body) if file.is_file() else self.missing("EntryNotFound")
                return self.missing("RepoNotFound")

            def missing(self, code, status=404):
                self.send(status, b"", True, {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

            def file(self, file, body):
                content = file.read_bytes()
                start = int(m[1]) if (m := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
                etag = hashlib.sha256(content).hexdigest()
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                if start:
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                most = hub.cut.pop(file.name, None) if body else None
                self.send(206 if start else 200, content[start:], body, headers, most)

            def send(self, status, content, body, headers=None, most=None):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(content if most is None else content[:most])
                if most is not None:
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
