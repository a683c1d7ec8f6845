"""A stand-in for the HTTP API of the Hugging Face hub: repositories in memory, for tests without a network."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class Hub:
    """The repositories of a stand-in, and what was asked of it.

    Attributes:
        commits: Files of each commit, by repository and commit.
        branches: Commit of each branch, by repository.
        private: Repositories that need a token.
        asked: Method and path of each request.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []
        self.stated_sizes: dict[str, int] = {}
        self.failing = False

    def commit(self, repo: str, files: Files, branch: str = "main") -> str:
        """Adds a commit to a branch, and returns its name."""
        before = self.commits.setdefault(repo, {}).get(self.branches.setdefault(repo, {}).get(branch, ""), {})
        after = {**before, **files}
        name = hashlib.sha1(repr((repo, branch, sorted(after.items()))).encode()).hexdigest()
        self.commits[repo][name] = after
        self.branches[repo][branch] = name
        return name

    def find(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """The commit of a revision and its files; None if there is none."""
        name = self.branches.get(repo, {}).get(revision, revision)
        files = self.commits.get(repo, {}).get(name)
        return None if files is None else (name, files)


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """Serves a hub on this machine, and yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

        def reply(self, status: int, body: Any = b"", code: str = "", **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, **({"X-Error-Code": code, "X-Error-Message": code} if code else {})}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            if hub.failing:
                return self.reply(503)
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+))?", path):
                repo, revision = match[1], (match[2] or "main").replace("%2F", "/")
                name = None
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                repo, revision, name = match[1], match[2].replace("%2F", "/"), match[3]
            else:
                return self.reply(404)
            if repo not in hub.commits or (repo in hub.private and "Authorization" not in self.headers):
                return self.reply(401, code="RepoNotFound")
            found = hub.find(repo, revision)
            if found is None:
                return self.reply(404, code="RevisionNotFound")
            commit, files = found
            if name is None:
                siblings = [
                    {"rfilename": file, "size": hub.stated_sizes.get(file, len(content))}
                    for file, content in files.items()
                ]
                return self.reply(200, {"id": repo, "sha": commit, "siblings": siblings})
            if name not in files:
                return self.reply(404, code="EntryNotFound")
            digest = hashlib.sha1(files[name]).hexdigest()
            return self.reply(200, files[name], ETag=f'"{digest}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.asked.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "Authorization" not in self.headers:
                return self.reply(401, {"error": "Invalid username or password."})
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.commits.setdefault(repo, {})
                hub.branches.setdefault(repo, {})
                if asked.get("private") or asked.get("visibility") == "private":
                    hub.private.add(repo)
                return self.reply(200, {"url": f"https://huggingface.co/{repo}", "name": repo})
            if self.path == "/api/validate-yaml":
                return self.reply(200, {"errors": [], "warnings": []})
            match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/([^?]+)(?:\?.*)?", self.path)
            if match is None or match[1] not in hub.commits:
                return self.reply(404, code="RepoNotFound")
            repo, action, revision = match[1], match[2], match[3]
            if action == "branch":
                hub.branches[repo].setdefault(revision, hub.branches[repo].get("main", ""))
                return self.reply(200, {})
            if action == "preupload":
                modes = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
                return self.reply(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            name = hub.commit(repo, files, revision)
            done = {"success": True, "commitOid": name, "commitUrl": f"https://huggingface.co/{repo}/commit/{name}"}
            return self.reply(200, {**done, "hookOutput": ""})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
