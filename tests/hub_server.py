"""
A small Hub in memory: the endpoints that huggingface_hub calls to push and to load, and their faults at will.

    with HubServer() as hub:
        hub.url                                     # for HF_ENDPOINT
        hub.fail("POST", "/commit/", status=503)    # the next such request; `times=None` for all
        hub.files("model", "me/demo")               # {path: content} of a branch or commit
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LFS_ENDINGS = (".safetensors", ".parquet", ".png", ".mp4", ".tflite", ".bin")
MODES = ("regular", "lfs")
API = r"/api/(?P<kind>model|dataset|space)s/(?P<name>[^/]+/[^/]+)"
SITE = r"/((?P<kind>dataset|space)s/)?(?P<name>[^/]+/[^/]+)"
PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}


class Refusal(Exception):
    """An answer that is an error, with the code by which huggingface_hub knows it."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Repository:
    kind: str
    name: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), self.kind, self.name)).encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str:
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


@dataclass
class Fault:
    method: str
    pattern: str
    status: int | None
    times: int | None
    action: Callable[[], None] | None


class HubServer:
    """
    Args:
        token: What a request must carry to write, or to read what is private.
        role: Of the token: `write` or `read`.
    """

    def __init__(self, token: str = "hf_this_is_the_token_of_the_tests", role: str = "write"):
        self.token, self.role = token, role
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.messages: list[str] = []  # of the commits that were asked for
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.requests: list[str] = []
        self.credentials: list[tuple[str, str | None]] = []  # path and header "Authorization" of each request
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[kind, name]
        return repository.commits[repository.resolve(revision)]

    def fail(self, method: str, pattern: str, status: int | None = None, times: int | None = 1) -> None:
        """The next `times` requests end in this status; without one, the connection breaks within the body."""
        self.faults.append(Fault(method, pattern, status, times, None))

    def before(self, method: str, pattern: str, action: Callable[[], None]) -> None:
        """Something that happens just before the next such request."""
        self.faults.append(Fault(method, pattern, None, 1, action))

    def due(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and re.search(fault.pattern, path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self.faults.remove(fault)
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    ROUTES = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"{api}/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"{api}/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", r"{api}/branch/(?P<branch>[^/]+)", "branch"),
        ("PUT", r"{api}/settings", "settings"),
        ("GET", r"{api}/refs", "refs"),
        ("GET", r"{api}/tree/(?P<revision>[^/]+)(?P<under>/.*)?", "tree"),
        ("POST", r"{api}/paths-info/(?P<revision>[^/]+)", "paths"),
        ("GET", r"{api}(/revision/(?P<revision>[^/]+))?", "info"),
        ("POST", r"{site}\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})", "store"),
        ("GET", r"{site}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )  # fmt: skip

    def handle_one(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.credentials.append((path, self.headers.get("Authorization")))
        fault = self.hub.due(self.command, path)
        if fault is not None and fault.action is not None:
            fault.action()
            fault = None
        length = int(self.headers.get("Content-Length") or 0)
        if fault is not None and fault.status is None:
            self.rfile.read(length // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.body = (
            self._read_chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(length)
        )
        try:
            if fault is not None:
                raise Refusal(fault.status, "out of order")
            for method, pattern, name in self.ROUTES:
                found = re.fullmatch(pattern.replace("{api}", API).replace("{site}", SITE), path)
                if found and method == ("GET" if self.command == "HEAD" else self.command):
                    arguments = {key: value and unquote(value) for key, value in found.groupdict().items()}
                    with self.hub.lock:
                        return getattr(self, name)(**arguments)
            raise Refusal(404, f"No endpoint {self.command} {path}", "EntryNotFound")
        except Refusal as refusal:
            headers = {"X-Error-Message": str(refusal)} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            self.answer({"error": str(refusal)}, refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    # Accounts

    def whoami(self) -> None:
        self._authorize()
        token = {"displayName": "tests", "role": self.hub.role}
        orgs = [{"name": "lab", "roleInOrg": "write"}, {"name": "museum", "roleInOrg": "read"}]
        self.answer(
            {"name": "me", "type": "user", "orgs": orgs, "auth": {"type": "access_token", "accessToken": token}}
        )

    # Writing

    def create(self) -> None:
        self._authorize(write=True)
        asked = json.loads(self.body)
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        if (kind, name) in self.hub.repositories:
            raise Refusal(409, "You already created this repository")
        repository = Repository(kind, name, asked.get("private", False) or asked.get("visibility") == "private")
        self.hub.repositories[kind, name] = repository
        made = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
        if kind == "space":
            made["README.md"] = f"---\ntitle: {asked['name']}\nsdk: {asked['sdk']}\n---\n".encode()
        repository.commit("main", made)
        self.answer({"url": f"{self.hub.url}/{PREFIXES[kind]}{name}", "id": name})

    def validate(self) -> None:
        block = re.match(r"---\n(.*?)\n---", json.loads(self.body)["content"], re.DOTALL)
        errors = [] if block else [{"message": "no metadata"}]
        if block and re.search(r"^license: other$", block[1], re.MULTILINE) and "license_name" not in block[1]:
            errors.append({"message": "license other needs license_name"})
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name, write=True)
        repository.resolve(revision)
        files = json.loads(self.body)["files"]
        told = [
            {"path": one["path"], "uploadMode": MODES[one["path"].endswith(LFS_ENDINGS)], "shouldIgnore": False}
            for one in files
        ]
        self.answer({"files": told})

    def batch(self, kind: str | None, name: str) -> None:
        self._repository(kind or "model", name, write=True)
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/storage/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.large else {"actions": upload})})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "The content is not what was announced")
        self.hub.large[oid] = self.body
        self.answer({})

    def commit(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name, write=True)
        parent = repository.resolve(revision)
        lines = [json.loads(line) for line in self.body.splitlines()]
        self.hub.messages.append(lines[0]["value"]["summary"])
        if lines[0]["value"].get("parentCommit") not in (None, parent):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[parent])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise Refusal(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.large[value["oid"]]
            elif files.pop(value["path"], None) is None:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        sha = repository.commit(revision, files)
        url = f"{self.hub.url}/{PREFIXES[kind]}{name}/commit/{sha}"
        self.answer({"success": True, "commitOid": sha, "commitUrl": url})

    def branch(self, kind: str, name: str, branch: str) -> None:
        repository = self._repository(kind, name, write=True)
        if branch in repository.branches:
            raise Refusal(409, "Reference already exists")
        repository.branches[branch] = repository.resolve(json.loads(self.body or b"{}").get("startingPoint", "main"))
        self.answer({})

    def settings(self, kind: str, name: str) -> None:
        repository, asked = self._repository(kind, name, write=True), json.loads(self.body)
        repository.private = asked["private"] if "private" in asked else asked["visibility"] == "private"
        self.answer({"private": repository.private})

    # Reading

    def info(self, kind: str, name: str, revision: str | None) -> None:
        repository = self._repository(kind, name)
        sha = repository.resolve(revision or "main")
        files = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        told = {"_id": "0", "id": name, "private": repository.private, "sha": sha, "siblings": files, "tags": []}
        self.answer({**told, "author": name.partition("/")[0], "downloads": 0, "likes": 0, "gated": False})

    def refs(self, kind: str, name: str) -> None:
        branches = self._repository(kind, name).branches.items()
        told = [{"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha} for branch, sha in branches]
        self.answer({"branches": told, "converts": [], "tags": []})

    def tree(self, kind: str, name: str, revision: str, under: str | None) -> None:
        folder = (under or "").strip("/")
        entries = self._entries(self._repository(kind, name), revision)
        if folder and not any(path.startswith(f"{folder}/") for path in entries):
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        inside = {path: entry for path, entry in entries.items() if not folder or path.startswith(f"{folder}/")}
        depth = folder.count("/") + 1 if folder else 0
        self.answer([entry for path, entry in inside.items() if recursive or path.count("/") == depth])

    def paths(self, kind: str, name: str, revision: str) -> None:
        if "json" in self.headers.get("Content-Type", ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        entries = self._entries(self._repository(kind, name), revision)
        self.answer([entries[path] for path in wanted if path in entries])

    def resolve(self, kind: str | None, name: str, revision: str, path: str) -> None:
        repository = self._repository(kind or "model", name)
        sha = repository.resolve(revision)
        content = repository.commits[sha].get(path)
        if content is None:
            raise Refusal(404, f"{path} does not exist", "EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        status, wanted = 200, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            last = min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {wanted[1]}-{last}/{len(content)}"
            status, content = 206, content[int(wanted[1]) : last + 1]
        self.answer(content, status, headers)

    def _entries(self, repository: Repository, revision: str) -> dict[str, dict]:
        """Files and folders, by path."""
        files = repository.commits[repository.resolve(revision)]
        entries = {}
        for path, content in sorted(files.items()):
            *folders, _ = path.split("/")
            for number in range(len(folders)):
                folder = "/".join(folders[: number + 1])
                entries[folder] = {"type": "directory", "path": folder, "oid": "0", "size": 0}
            entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            if path.endswith(LFS_ENDINGS):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
            entries[path] = entry
        return entries

    def _authorize(self, write: bool = False) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise Refusal(401, "Invalid credentials in Authorization header")
        if write and self.hub.role != "write":
            raise Refusal(403, "You don't have the rights")

    def _repository(self, kind: str, name: str, write: bool = False) -> Repository:
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if write:
            self._authorize(write=True)
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not known):
            raise Refusal(404 if known else 401, "Repository not found", "RepoNotFound")
        return repository

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass
