"""A hub on this machine that speaks what `huggingface_hub` asks of it: repositories are folders, a commit each."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]  # path -> content


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.commits: dict[str, dict[str, Files]] = {}  # repository -> commit -> files
        self.refs: dict[str, dict[str, str]] = {}  # repository -> branch or tag -> commit
        self.private: set[str] = set()
        self.broken = False  # whether it answers nothing but 403 to uploads
        self.broken_reads = False  # the same, to who reads

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, name: str, files: Files, ref: str = "main") -> str:
        """A commit of its own, which `ref` and its own name stand for."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits.setdefault(name, {})[commit] = files
        self.refs.setdefault(name, {})[ref] = commit
        return commit

    def files(self, name: str, revision: str) -> tuple[str, Files] | None:
        commit = self.refs.get(name, {}).get(revision, revision)
        found = self.commits.get(name, {}).get(commit)
        return None if found is None else (commit, found)


class Answers(BaseHTTPRequestHandler):
    server: FakeHub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, *said: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.server.broken_reads:
            return self._answer(403, {"error": "you may not read here"})
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._about("/".join(parts[2:4]), parts[4:5] == ["tree"], parts[5] if len(parts) > 5 else "main")
        if parts[2:3] == ["resolve"]:
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        self._answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.server.broken:
            return self._answer(403, {"error": "you may not write here"})
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization") or "me", asked["name"])))
            self.server.put(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(name)
            return self._answer(200, {"url": f"{self.server.endpoint}/{name}", "id": name, "name": name})
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            return self._answer(200, {"files": [f | {"shouldIgnore": False} for f in files]})
        if parts[4] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            given = [line["value"] for line in lines if line["key"] == "file"]
            files = {file["path"]: base64.b64decode(file["content"]) for file in given}
            commit = self.server.put(name, files)
            url = f"{self.server.endpoint}/{name}/commit/{commit}"
            return self._answer(200, {"commitOid": commit, "commitUrl": url, "success": True})
        self._answer(404, {"error": "no such page"})

    def _about(self, name: str, tree: bool, revision: str) -> None:
        found = self.server.files(name, revision)
        if found is None:
            known = name in self.server.commits
            code = "RevisionNotFound" if known else "RepoNotFound"
            return self._answer(404, {"error": "not found"}, {"X-Error-Code": code, "X-Error-Message": "not found"})
        commit, files = found
        if tree:
            sizes = {path: {"size": len(data), "oid": hashlib.sha1(data).hexdigest()} for path, data in files.items()}
            return self._answer(200, [{"type": "file", "path": path, **about} for path, about in sizes.items()])
        self._answer(200, {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]})

    def _file(self, name: str, revision: str, path: str) -> None:
        found = self.server.files(name, revision)
        if found is None or path not in found[1]:
            return self._answer(404, {"error": "not found"}, {"X-Error-Code": "EntryNotFound"})
        about = {"ETag": f'"{hashlib.sha1(found[1][path]).hexdigest()}"', "X-Repo-Commit": found[0]}
        self._answer(200, found[1][path], about)

    def _answer(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serving() -> Iterator[FakeHub]:
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
