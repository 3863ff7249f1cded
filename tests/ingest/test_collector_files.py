"""Files that a real Collector wrote (0.160, exporter ``file``), read by ``llm-observatory ingest``.

Three agent runs of the OpenTelemetry SDK, an evaluation result and a metric went through one Collector with an exporter
for each form; ``*.zst`` are from the feature gate ``exporter.file.nativeCompression``, ``*.messages.zstd`` from
``compression: zstd`` without it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.commands.otlp_files import JSON, FileRequest, read_requests
from server.ingest.mapping.log_mapping import map_logs
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.mapping.span_times import to_datetime
from server.ingest.otlp.decode import decode_logs, decode_traces

FOLDER = Path(__file__).parents[1] / "fixtures" / "collector"
MIXED = ("lines.jsonl", "lines.jsonl.zst", "lines.json.messages.zstd")
OF_TRACES = ("traces.binpb", "traces.binpb.zst", "traces.binpb.messages.zstd")


def read(name: str) -> tuple[list[FileRequest], list[str]]:
    skipped: list[str] = []
    return list(read_requests(FOLDER / name, skipped.append)), skipped


def rows(request: FileRequest) -> list[dict[str, Any]]:
    decoded = decode_traces(request.body, request.content_type)
    captured = max(span.end_ns for group in decoded.groups for span in group.spans)
    batch = map_spans(decoded, now=to_datetime(captured) + timedelta(minutes=1))
    assert batch.rejected == []
    columns = ("trace_id", "span_id", "parent_span_id", "span_name", "model", "prompt_tokens", "session_id", "user_id")
    return sorted(
        (
            {name: getattr(record, name) for name in (*columns, "service_name", "environment")}
            for record in batch.records
        ),
        key=lambda row: row["span_id"],
    )


def test_the_folder_has_no_other_files() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*MIXED, *OF_TRACES, "logs.binpb"}


@pytest.mark.parametrize("name", [*MIXED, *OF_TRACES])
def test_every_form_gives_the_same_rows(name: str) -> None:
    requests, skipped = read(name)
    assert [request.signal.path for request in requests] == ["/v1/traces", "/v1/logs"][: 2 if name in MIXED else 1]
    assert skipped == (["metrics are not supported"] if name in MIXED else [])
    found = rows(requests[0])
    assert found == rows(read("lines.jsonl")[0][0])
    assert len(found) == 9
    calls = [row for row in found if row["model"] == "gpt-4.1-mini"]
    assert sorted(row["prompt_tokens"] for row in calls) == [100, 101, 102]
    assert {(row["session_id"], row["service_name"], row["environment"]) for row in calls} == {
        ("captured", "chat", "staging")
    }
    assert requests[-1].read_bytes == (FOLDER / name).stat().st_size


@pytest.mark.parametrize("name", [*MIXED, "logs.binpb"])
def test_evaluation_results_become_scores(name: str) -> None:
    request = read(name)[0][-1]
    assert (request.content_type == JSON) is (name in MIXED)
    captured = datetime(2026, 11, 23, 16, 31, tzinfo=UTC)
    (score,) = map_logs(decode_logs(request.body, request.content_type), now=captured).scores
    assert (score.name, score.value) == ("relevance", 0.75)
