"""A small hub: the endpoints that huggingface_hub asks for one user's models, over HTTP, in memory."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub(ThreadingHTTPServer):
    """Repositories by name: revision (branch or commit) -> commit, commit -> files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.revisions: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str, revision: str, files: dict[str, bytes]) -> str:
        """Add files to a branch; returns the new commit."""
        with self.lock:
            branches = self.revisions.setdefault(repo, {})
            content = self.commits.get(branches.get(revision, ""), {}) | files
            sha = hashlib.sha1(repr(sorted((k, hashlib.sha1(v).digest()) for k, v in content.items())).encode())
            self.commits[sha.hexdigest()] = content
            branches[revision] = branches[sha.hexdigest()] = sha.hexdigest()
            return sha.hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, X_Error_Code=code, X_Error_Message=code)

    def route(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        if self.command in ("POST", "PUT"):
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/large/"):
                return self.refuse(401, "")
            return self.write(path, body)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            return self.tell(found[1], found[3] or "main", tree=found[2] == "tree")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        commit = found and self.find(found[1], found[2])
        if not found or not commit:
            return None if found else self.refuse(404, "RepoNotFound")
        if (content := self.server.commits[commit].get(found[3])) is None:
            return self.refuse(404, "EntryNotFound")
        self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)

    do_GET = do_HEAD = do_POST = do_PUT = route

    def find(self, repo: str, revision: str) -> str | None:
        """The commit, or None when it was answered that there is none."""
        if repo not in self.server.revisions:
            return self.refuse(404, "RepoNotFound")
        return self.server.revisions[repo].get(revision) or self.refuse(404, "RevisionNotFound")

    def tell(self, repo: str, revision: str, *, tree: bool) -> None:
        if (commit := self.find(repo, revision)) is None:
            return
        files = self.server.commits[commit]
        if tree:
            entry = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            return self.json(entry)
        self.json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files], "private": False})

    def write(self, path: str, body: bytes) -> None:
        if path == "/api/validate-yaml":
            return self.json({"warnings": [], "errors": []})
        if path.startswith("/large/"):
            self.server.large[path.removeprefix("/large/")] = body
            return self.answer(200)
        if path == "/api/repos/create":
            said = json.loads(body)
            repo = f"{said['organization']}/{said['name']}"
            if repo in self.server.revisions:
                return self.json({"url": f"{self.server.address}/{repo}"}, 409)
            self.server.commit(repo, "main", {".gitattributes": b""})
            return self.json({"url": f"{self.server.address}/{repo}"})
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.json({"transfer": "basic", "objects": objects})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/([^/]+)", path)
        assert found, f"the hub does not know {path}"
        repo, what, revision = found.groups()
        if what == "branch":
            self.server.revisions[repo].setdefault(revision, self.server.revisions[repo]["main"])
            return self.json({})
        if what == "preupload":
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            said = [{"path": f["path"], "uploadMode": modes[f["size"] > 10_000], "shouldIgnore": False} for f in files]
            return self.json({"files": said})
        added = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                added[value["path"]] = self.server.large[value["oid"]]
        sha = self.server.commit(repo, revision, added)
        self.json({"commitUrl": f"{self.server.address}/{repo}/commit/{sha}", "commitOid": sha})


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that listens while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
