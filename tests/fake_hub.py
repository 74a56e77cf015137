"""A model hub on this machine: the part of the Hugging Face hub's protocol that a model's way there and back needs."""

from __future__ import annotations

import base64
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
    token: what a request that writes has to carry. private: the repositories that were made private.
    faults: part of a path that writes -> (status, or "reset" for a broken connection; how often).
    objects: SHA-256 -> content of the large files that were sent. commits: the file names of each commit.
    """

    def __init__(self, root: Path):
        self.asked: list[str] = []
        self.cut: dict[str, int] = {}
        self.token = ""
        self.private: set[str] = set()
        self.faults: dict[str, tuple[int | str, int]] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def do_POST(self):
                self.write()

            def do_PUT(self):
                self.write()

            def log_message(self, *args):
                pass

            def write(self):
                path = self.path.partition("?")[0]
                hub.asked.append(f"{self.command} {path}")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                for part, (fault, times) in [*hub.faults.items()]:
                    if part in path and times:
                        hub.faults[part] = (fault, times - 1)
                        if fault == "reset":
                            self.close_connection = True
                            return None
                        return self.send(int(fault), b"", True)
                signed = path.startswith("/lfs/")  # addresses of large files need no token
                if hub.token and not signed and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.send(401, b"", True)
                if signed:
                    return self.keep(path.removeprefix("/lfs/"), body)
                if path == "/api/repos/create":
                    return self.create(json.loads(body))
                if path == "/api/validate-yaml":
                    return self.tell({"errors": [], "warnings": []})
                if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
                    return self.tell({"objects": [self.offer(one) for one in json.loads(body)["objects"]]})
                if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                    files = [file["path"] for file in json.loads(body)["files"]]
                    large = (".safetensors", ".png")
                    modes = [(name, "lfs" if name.endswith(large) else "regular") for name in files]
                    told = [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes]
                    return self.tell({"files": told})
                if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                    return self.commit(found[1], [json.loads(line) for line in body.splitlines()])
                return self.missing("RepoNotFound")

            def create(self, about):
                name = f"{about['organization']}/{about['name']}"
                told = {"url": f"{hub.address}/{name}", "name": name, "id": name}
                if (root / name).is_dir():
                    return self.tell(told, 409)
                (root / name).mkdir(parents=True)
                if about.get("visibility") == "private" or about.get("private"):
                    hub.private.add(name)
                return self.tell(told)

            def offer(self, one):
                if one["oid"] in hub.objects:
                    return one
                return {**one, "actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}"}}}

            def keep(self, oid, body):
                if hashlib.sha256(body).hexdigest() != oid:
                    return self.send(400, b"", True)
                hub.objects[oid] = body
                return self.send(200, b"", True)

            def commit(self, name, lines):
                folder = root / name
                for line in lines:
                    about = line["value"]
                    if line["key"] == "file":
                        (folder / about["path"]).write_bytes(base64.b64decode(about["content"]))
                    elif line["key"] == "lfsFile":
                        (folder / about["path"]).write_bytes(hub.objects[about["oid"]])
                    elif line["key"] == "deletedFile":
                        (folder / about["path"]).unlink()
                hub.commits.append([line["value"]["path"] for line in lines if line["key"] != "header"])
                return self.tell({"commitUrl": f"{hub.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

            def tell(self, content, status=200):
                self.send(status, json.dumps(content).encode(), True, {"Content-Type": "application/json"})

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
                    about["private"] = found[1] in hub.private
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
