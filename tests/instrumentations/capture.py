"""Runs scenarios and writes what their exporters send: ``python capture.py [SCENARIO …]``.

The payloads become tests/fixtures/otlp/<scenario>.traces.pb and .json (and .logs.*), without
what belongs to one machine: host names, process ids, paths in stack traces, ports.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from drive import SCENARIOS
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_sink import otlp_sink

from tests.instrumentations.vendor_stub import vendor_stub

FIXTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
REQUESTS: dict[str, type[Message]] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
_MACHINE_KEYS = re.compile(
    r"^(host|process|os)\.|^service\.instance\.id$|^code\.(filepath|file\.path|lineno|line\.number)$"
)
_PATHS = re.compile(r"/(?:[\w.+-]+/)+(site-packages|python3\.\d+|tests)/")
_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def run_scenario(name: str) -> dict[str, Message]:
    """Run one scenario in a process of its own; return the merged requests it sent, by signal."""
    with vendor_stub() as vendor_url, otlp_sink() as sink:
        command = [sys.executable, str(Path(__file__).with_name("drive.py")), name, vendor_url, sink.url]
        subprocess.run(command, check=True, timeout=180)
        requests: dict[str, Message] = {}
        for signal, kind in REQUESTS.items():
            merged = kind()
            for path, bodies in sink.bodies.items():
                for body in bodies if path.endswith(f"/v1/{signal}") else ():
                    merged.MergeFromString(body)
            if merged.ByteSize():
                scrub(merged)
                requests[signal] = merged
        return requests


def scrub(request: Any) -> None:
    """Take out everything that belongs to one machine."""
    for group in [*getattr(request, "resource_spans", ()), *getattr(request, "resource_logs", ())]:
        _scrub_attributes(group.resource.attributes)
        for scope in [*getattr(group, "scope_spans", ()), *getattr(group, "scope_logs", ())]:
            for item in [*getattr(scope, "spans", ()), *getattr(scope, "log_records", ())]:
                _scrub_attributes(item.attributes)
                if hasattr(item, "status"):
                    item.status.message = _scrub_text(item.status.message)
                for event in getattr(item, "events", ()):
                    _scrub_attributes(event.attributes)


def _scrub_attributes(attributes: Any) -> None:
    kept = [pair for pair in attributes if not _MACHINE_KEYS.search(pair.key)]
    for pair in kept:
        if pair.key == "exception.stacktrace":
            pair.value.string_value = "Traceback (most recent call last): (left out)"
        elif pair.value.HasField("string_value"):
            pair.value.string_value = _scrub_text(pair.value.string_value)
        elif pair.key == "server.port":
            pair.value.int_value = 8000
    copies = [type(pair).FromString(pair.SerializeToString()) for pair in kept]
    del attributes[:]
    attributes.extend(copies)


def _scrub_text(text: str) -> str:
    return _PATHS.sub(r"\1/", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", text))


def to_json(request: Message) -> str:
    """Return the request in OTLP's JSON encoding: ProtoJSON, but ids in hex and enums as numbers."""
    document = MessageToDict(request, use_integers_for_enums=True)
    _hex_ids(document)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _hex_ids(node: Any) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _ID_FIELDS and isinstance(value, str):
                node[key] = base64.b64decode(value).hex()
            else:
                _hex_ids(value)
    elif isinstance(node, list):
        for item in node:
            _hex_ids(item)


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or SCENARIOS:
        for signal, request in run_scenario(name).items():
            (FIXTURES / f"{name}.{signal}.pb").write_bytes(request.SerializeToString(deterministic=True))
            (FIXTURES / f"{name}.{signal}.json").write_text(to_json(request), encoding="utf-8")
            print(name, signal, request.ByteSize())


if __name__ == "__main__":
    main()
