"""A strict stand-in for Grafana's HTTP API: it knows the paths the installer uses, and fails on anything else.

Shapes and statuses are those of Grafana 11 to 13: a list of versions in 11 and an object later, the message of a
first version lost, no check of Tempo by the server before 13, no body after a rule group was deleted, a provisioned
rule that names a dashboard without its panel refused.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = Any
TOKEN = "a-service-account-token"
USER = ("admin", "secret")


class StandIn:
    """The state of a Grafana, and the requests it received. ``proxied`` answers requests to the data source proxy."""

    def __init__(self, version: str, prefix: str) -> None:
        self.version = version
        self.prefix = prefix
        self.plugins = {"simpod-json-datasource", "yesoreyeram-infinity-datasource"}
        self.folders: dict[str, Json] = {}
        self.sources: dict[str, Json] = {}
        self.secrets: dict[str, Json] = {}
        self.boards: dict[str, Json] = {}
        self.messages: dict[str, list[str]] = {}
        self.groups: dict[str, Json] = {}
        self.templates: dict[str, Json] = {}
        self.failing: dict[str, str] = {}
        self.writes: list[str] = []
        self.foreign: list[str] = []
        self.proxied: Callable[[str, Json], tuple[int, Json]] = lambda path, body: (200, {"status": "ok"})
        self.queried: Callable[[Json], tuple[int, Json]] = lambda body: (200, {"results": {}})
        self.url = ""

    def answer(self, method: str, path: str, body: Json, authorization: str) -> tuple[int, Json]:
        """Return the status and body (None: no body)."""
        basic = "Basic " + base64.b64encode(":".join(USER).encode()).decode()
        if path == "/api/health":
            return 200, {"version": self.version, "database": "ok"}
        if authorization not in (f"Bearer {TOKEN}", basic):
            return 401, {"message": "Unauthorized"}
        if method != "GET" and not path.startswith(("/api/datasources/proxy", "/api/ds/query")):
            self.writes.append(f"{method} {path}")
        for pattern, handler in self._routes():
            match = re.fullmatch(pattern, path)
            if match is not None:
                return handler(method, match, body)
        raise AssertionError(f"the installer asked for {method} {path}")

    def _routes(self) -> tuple[tuple[str, Callable[[str, re.Match[str], Json], tuple[int, Json]]], ...]:
        return (
            (r"/api/plugins/([\w-]+)/settings", lambda method, match, body:
                (200, {"id": match[1]}) if match[1] in self.plugins else (404, {"message": "Plugin not found"})),
            (r"/api/folders(?:/([\w-]+))?", self._folder),
            (r"/api/datasources(?:/uid/([\w-]+))?", self._source),
            (r"/api/datasources/uid/([\w-]+)/health", self._health),
            (r"/api/datasources/proxy/uid/([\w-]+)/(.*)", lambda method, match, body: self.proxied(match[2], body)),
            (r"/api/ds/query", lambda method, match, body: self.queried(body)),
            (r"/api/dashboards/(?:db|uid/([\w-]+))", self._board),
            (r"/api/dashboards/uid/([\w-]+)/versions", self._versions),
            (r"/api/search", lambda method, match, body:
                (200, [{"uid": uid} for uid in [*self.boards, *self.foreign]])),
            (r"/api/v1/provisioning/folder/([\w-]+)/rule-groups/([\w-]+)", self._group),
            (r"/api/v1/provisioning/templates/([\w-]+)", self._template),
            (r"/api/prometheus/grafana/api/v1/rules", self._evaluated),
        )  # fmt: skip

    def _folder(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        if method == "POST":
            self.folders[body["uid"]] = body
            return 200, body
        if method == "DELETE":
            self.folders.pop(match[1])
            return 200, {"message": "deleted"}
        return (200, self.folders[match[1]]) if match[1] in self.folders else (404, {"message": "folder not found"})

    def _source(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        uid = match[1] or body["uid"]
        if method in ("POST", "PUT"):
            assert {"name", "type", "url", "access"} <= set(body)
            if "secureJsonData" in body:
                self.secrets[uid] = body["secureJsonData"]
            self.sources[uid] = {key: value for key, value in body.items() if key != "secureJsonData"} | {"id": 1}
            return 200, {"datasource": self.sources[uid]}
        if method == "DELETE":
            self.sources.pop(uid)
            return 200, {"message": "deleted"}
        return (200, self.sources[uid]) if uid in self.sources else (404, {"message": "Data source not found"})

    def _health(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        """Answer the check by Grafana's server: a plugin of the browser has none, nor has Tempo before Grafana 13."""
        kind = self.sources[match[1]]["type"]
        if kind == "simpod-json-datasource":
            return 500, {"message": "Plugin unavailable", "messageId": "plugin.unavailable"}
        if kind == "tempo" and int(self.version.split(".")[0]) < 13:
            return 404, {"message": "Method not implemented", "messageId": "plugin.notImplemented"}
        return 200, {"status": "OK", "message": "Data source is working"}

    def _board(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        if method == "POST":
            assert body["folderUid"] in self.folders
            uid = body["dashboard"]["uid"]
            self.boards[uid] = {**body["dashboard"], "id": 4, "version": len(self.messages.get(uid, ())) + 1}
            self.messages.setdefault(uid, []).append(body["message"])
            return 200, {"uid": uid, "status": "success"}
        if method == "DELETE":
            self.boards.pop(match[1])
            return 200, {"message": "deleted"}
        if match[1] not in self.boards:
            return 404, {"message": "Dashboard not found"}
        return 200, {"dashboard": self.boards[match[1]], "meta": {"provisioned": False}}

    def _versions(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        # GetDashboardVersions replaces the message of a version that has no parent.
        messages = ["Initial save", *self.messages[match[1]][1:]]
        versions = [{"version": number, "message": text} for number, text in reversed([*enumerate(messages, start=1)])]
        return 200, versions if self.version.startswith("11") else {"versions": versions}

    def _template(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        name = match[1]
        if method == "PUT":
            self.templates[name] = {"name": name, "template": body["template"].strip() + "\n", "version": "1"}
            return 202, self.templates[name]
        if method == "DELETE":
            self.templates.pop(name)
            return 204, None
        return (200, self.templates[name]) if name in self.templates else (404, {"message": "not found"})

    def _evaluated(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        """Return the rules as they were evaluated: those in ``failing`` with an error."""
        rules = [
            {"name": rule["title"], "state": "inactive", "lastError": self.failing.get(rule["title"], ""),
             "health": "error" if rule["title"] in self.failing else "ok"}
            for group in self.groups.values() for rule in group["rules"]
        ]  # fmt: skip
        return 200, {"status": "success", "data": {"groups": [{"name": "all", "rules": rules}]}}

    def _group(self, method: str, match: re.Match[str], body: Json) -> tuple[int, Json]:
        if method == "PUT":
            for rule in body["rules"]:
                links = {"__dashboardUid__", "__panelId__"} & set(rule["annotations"])
                assert len(links) in (0, 2)
            stored = json.loads(json.dumps(body))
            for rule in stored["rules"]:
                rule["id"], rule["updated"] = 1, "2026-01-01T00:00:00Z"
                for step in rule["data"]:
                    step["model"] |= {"intervalMs": 1000, "maxDataPoints": 43200}
            self.groups[match[2]] = stored
            return 200, body
        if method == "DELETE":
            self.groups.pop(match[2])
            return 204, None
        return (200, self.groups[match[2]]) if match[2] in self.groups else (404, {"message": "rule group not found"})


@contextmanager
def running(version: str = "12.4.0", prefix: str = "") -> Iterator[StandIn]:
    """Run a stand-in that listens below the sub-path ``prefix``."""
    stand_in = StandIn(version, prefix)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            path = self.path.split("?")[0]
            assert path.startswith(f"{prefix}/api/"), path
            status, body = stand_in.answer(
                self.command, path.removeprefix(prefix), json.loads(raw) if raw else None,
                self.headers.get("Authorization", ""),
            )  # fmt: skip
            content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}{prefix}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
