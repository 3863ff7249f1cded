"""``llm-observatory import``: exports of other tools end as the spans, costs and scores that they were there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server import cli
from server.imports.export_reader import ExportReader, Item
from server.imports.identifiers import identifier
from server.imports.import_format import TOOLS, import_format
from server.imports.moments import nanoseconds
from server.imports.rows import UnreadableFileError, rows_of
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import decode_traces
from server.text.json_text import dumps
from tests.conftest import AppServer, ProjectMaker

FIXTURES = Path(__file__).parents[1] / "fixtures" / "imports"
FIXTURE_DAY = datetime(2026, 11, 1, tzinfo=UTC)
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)


def recent(tool: str, folder: Path) -> list[Path]:
    """Write the files of ``tool`` into ``folder``, as if their day were two days ago: old spans would be refused."""
    files = []
    for fixture in sorted(FIXTURES.glob(f"{tool}-*")):
        text = fixture.read_text().replace("2026-11-01", DAY.strftime("%Y-%m-%d"))
        ten = timedelta(hours=10)
        text = text.replace(str(int((FIXTURE_DAY + ten).timestamp())), str(int((DAY + ten).timestamp())))
        file = folder / fixture.name
        file.write_text(text)
        files.append(file)
    return files


def read(tool: str, files: list[Path]) -> tuple[list[Item], list[str]]:
    """Return the items of an export, and the reasons why others are left out."""
    reasons: list[str] = []
    reader = ExportReader(
        import_format(tool), files, lambda file, place, why: reasons.append(f"{file.name}, {place}: {why}")
    )
    return list(reader.items()), reasons


def mapped(items: list[Item], now: datetime | None = None) -> dict[str, Any]:
    """Return the rows that the spans become, by span id."""
    spans = [item.span for item in items if item.span is not None]
    body = dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    batch = map_spans(decode_traces(body, "application/json"), now=now or datetime.now(UTC))
    assert batch.rejected == []
    return {record.span_id: record for record in batch.records}


# The one model call of each tool's example: id, model, prompt, cached, completion, cost, user, session.
CALLS = {
    "langfuse": ("b7ad6b7169203332", "gpt-4.1-mini", 100, 40, 50, "0.000108", "ada", "conversation-7"),
    "phoenix": ("00f067aa0ba902b8", "gpt-4o", 120, 100, 30, "0.000475", "ada", "conversation-8"),
    "mlflow": ("00f067aa0ba902c1", "gpt-4.1-mini", 100, 40, 50, "0.000108", "ada", "conversation-9"),
    "langsmith": ("800000000000abce", "gpt-4.1-mini-2025-04-14", 100, 40, 50, "0.000108", "ada", "conversation-10"),
    "helicone": ("8a9b0c1d2e3f4a5b", "gpt-4o-2024-08-06", 120, 100, 30, "0.000475", "ada", "conversation-11"),
}
LEFT_OUT = {
    "langfuse": [
        "langfuse-observations.jsonl, line 3: not valid JSON",
        "langfuse-observations.jsonl, line 5: 'yesterday' is not a time",
    ],
    "phoenix": ["phoenix-annotations.json, row 2: does not belong to a trace in these files"],
    "mlflow": ["mlflow-traces.jsonl, line 1, score 2: has no value"],
    "langsmith": [],
    "helicone": ["helicone-requests.jsonl, line 3: is not a row of an export of Helicone"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_call_keeps_its_ids_tokens_cost_and_content_and_what_is_left_out_is_named(tool: str, tmp_path: Path) -> None:
    items, reasons = read(tool, recent(tool, tmp_path))
    assert reasons == LEFT_OUT[tool]
    rows = mapped(items)
    span_id, model, prompt, cached, completion, cost, user, session = CALLS[tool]
    call = rows[span_id]
    assert (call.model, call.is_generation) == (model, True)
    assert call.provider == (None if tool == "langfuse" else "openai"), "Langfuse's exports do not have it"
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (prompt, cached, completion)
    assert (call.total_cost_usd, call.cost_source) == (Decimal(cost), "reported")
    assert (call.user_id, call.session_id) == (user, session)
    assert (call.input_text, call.output_text) == ("Where is my parcel?", "It is in Lyon.")
    assert call.attributes["observatory.import.tool"] == tool
    others = [row for row in rows.values() if row is not call and row.trace_id == call.trace_id]
    assert tool == "helicone" or any(row.span_id == call.parent_span_id for row in others)
    spent = sum(
        (row.total_cost_usd or Decimal(0) for row in rows.values() if row.trace_id == call.trace_id), Decimal(0)
    )
    assert spent == Decimal(cost), "once, though a tool repeats it on the parents"


@pytest.mark.parametrize("name", ["mlflow-to-json.jsonl", "mlflow-search-traces.jsonl"])
def test_files_that_the_tool_itself_wrote_are_read(name: str) -> None:
    """MLflow 3.17: ``Trace.to_json()``, a line each, and the data frame of ``search_traces()`` as JSON lines."""
    items, reasons = read("mlflow", [FIXTURES / "written" / name])
    assert reasons == [f"{name}, line 2, score 4: has no value"], "an expectation is not a score"
    rows = {row.span_name: row for row in mapped(items, now=datetime(2026, 11, 30, tzinfo=UTC)).values()}
    assert (rows["carrier"].status_code, rows["carrier"].error_message) == (
        "ERROR",
        "TimeoutError: no answer from the carrier",
    )
    call, root = rows["chat"], rows["support"]
    assert (call.trace_id, call.parent_span_id) == (root.trace_id, root.span_id)
    assert (call.model, call.provider, call.is_generation) == ("gpt-4.1-mini", "openai", True)
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (100, 40, 50)
    assert (call.user_id, call.session_id) == ("ada", "conversation-9")
    assert (call.input_text, call.output_text) == ("Where is my parcel?", "It is in Lyon.")
    scores = {item.score["name"]: item.score["value"] for item in items if item.score}
    assert scores == {"grounded": True, "helpfulness": 0.75, "tone": "kind"}


# Files with the classes or the server of the tool itself, and the call in them: id, model, cost, source of the cost.
WRITTEN_BY_THE_TOOL = {
    # The server of arize-phoenix 20.26 (REST) and its client (data frame), spans of a real instrumentation.
    "phoenix-spans.json": ("phoenix", "f76211c436feb191", "gpt-4o-2024-08-06", "0.000475", "computed"),
    "phoenix-dataframe.jsonl": ("phoenix", "f76211c436feb191", "gpt-4o-2024-08-06", "0.000475", "computed"),
    # The classes of the public API in the SDK, langfuse 5.0.
    "langfuse-observations-v2.json": ("langfuse", "b7ad6b7169203332", "gpt-4.1-mini", "0.000108", "reported"),
    # The runs that langsmith 0.15 with langchain-core 1.8 sends, before the service adds its counts and costs.
    "langsmith-sdk-runs.jsonl": ("langsmith", "a4def2d0cb88ed2a", "gpt-4.1-mini-2025-04-14", "0.000108", "computed"),
}


@pytest.mark.parametrize("name", WRITTEN_BY_THE_TOOL)
def test_a_call_in_a_file_that_the_tool_itself_wrote_has_all_its_parts(name: str) -> None:
    tool, span_id, model, cost, source = WRITTEN_BY_THE_TOOL[name]
    items, reasons = read(tool, [FIXTURES / "written" / name])
    assert reasons == []
    rows = mapped(items, now=datetime(2026, 11, 30, 12, tzinfo=UTC))
    call = rows[span_id]
    assert (call.model, call.total_cost_usd, call.cost_source) == (model, Decimal(cost), source)
    assert (call.total_tokens, call.cached_tokens) in ((150, 40), (150, 100))
    assert (call.user_id, sorted(call.tags)) == ("ada", ["beta", "web"])
    assert (call.input_text, call.output_text) == ("Where is my parcel?", "It is in Lyon.")
    others = [row for row in rows.values() if row is not call]
    assert {row.cost_source for row in others} == {"none"}, "a total of 0 on an agent is no report"
    for tool_call in (row for row in others if row.span_name == "track"):
        assert tool_call.status_code == "ERROR"
        assert tool_call.error_message.startswith("TimeoutError")


def test_scores_of_the_newest_public_api_of_langfuse_belong_to_what_they_are_about() -> None:
    """Scores of version 3 of that API name their subject; one of a session belongs to no trace."""
    files = [FIXTURES / "written" / f"langfuse-{name}.json" for name in ("observations-v2", "scores-v3")]
    items, reasons = read("langfuse", files)
    assert reasons == ["langfuse-scores-v3.json, row 4: does not belong to a trace in these files"]
    scores = [item.score for item in items if item.score]
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert [(score["name"], score["value"], score["trace_id"], score.get("span_id")) for score in scores] == [
        ("helpfulness", 0.75, trace, "b7ad6b7169203332"),
        ("tone", "1", trace, None),
        ("solved", True, trace, "b7ad6b7169203331"),
    ]
    assert sum(item.span is not None for item in items) == 2, "a score is no trace"


def test_annotations_that_the_server_of_phoenix_wrote_are_scores() -> None:
    files = [FIXTURES / "written" / f"phoenix-{name}.json" for name in ("spans", "annotations")]
    items, reasons = read("phoenix", files)
    assert reasons == []
    (score,) = [item.score for item in items if item.score]
    assert (score["name"], score["value"], score["source"]) == ("correctness", 1.0, "eval")
    assert (score["span_id"], score["comment"]) == ("f76211c436feb191", "says where it is")


def test_requests_as_helicone_stores_them_keep_cost_and_have_no_words_of_helicone(tmp_path: Path) -> None:
    """Times without a zone, the cost as ``cost``, and a notice in the place of bodies that were not asked for."""
    rows = mapped(read("helicone", recent("helicone", tmp_path))[0])
    whole, bare = rows["8a9b0c1d2e3f4a61"], rows["8a9b0c1d2e3f4a62"]
    for row in (whole, bare):
        assert (row.model, row.provider, row.prompt_tokens, row.completion_tokens) == (
            "gpt-4o-2024-08-06", "openai", 120, 30,
        )  # fmt: skip
        assert (row.total_cost_usd, row.duration_ms, row.status_code) == (Decimal("0.000475"), 1500, "OK")
        assert row.span_name == "https://api.openai.com/v1/chat/completions"
    assert (whole.user_id, whole.session_id) == ("ada", "conversation-12")
    assert (whole.input_text, whole.output_text) == ("Where is my parcel?", "It is in Lyon.")
    assert whole.ts == DAY + timedelta(hours=10, minutes=2)
    assert (bare.input_text, bare.output_text, bare.input_messages, bare.user_id) == (None, None, None, None)


@pytest.mark.parametrize(
    ("tool", "span_id", "message"),
    [
        ("langfuse", "b7ad6b7169203334", "TimeoutError: no answer from the carrier"),
        ("phoenix", "00f067aa0ba902b9", "RateLimitError: slow down"),
        ("langsmith", "800000000000abcf", "TimeoutError('no answer from the carrier')"),
        ("helicone", "8a9b0c1d2e3f4a5c", "Rate limit reached"),
    ],
)
def test_a_failure_stays_one(tool: str, span_id: str, message: str, tmp_path: Path) -> None:
    row = mapped(read(tool, recent(tool, tmp_path))[0])[span_id]
    assert (row.status_code, row.error_message) == ("ERROR", message)


def test_scores_keep_type_source_and_what_they_are_about(tmp_path: Path) -> None:
    def scores(tool: str) -> dict[str, Any]:
        return {item.score["name"]: item.score for item in read(tool, recent(tool, tmp_path))[0] if item.score}

    langfuse = scores("langfuse")
    assert [langfuse[name]["value"] for name in ("helpfulness", "tone", "solved")] == [0.75, "kind", True]
    assert [langfuse[name]["source"] for name in ("helpfulness", "tone", "solved")] == ["eval", "human", "api"]
    assert langfuse["helpfulness"]["span_id"] == "b7ad6b7169203332"
    assert langfuse["helpfulness"]["score_id"] == "s-1"
    assert "span_id" not in langfuse["tone"]
    # Phoenix and LangSmith name the span alone; MLflow has it inside of the trace; Helicone on the request.
    assert scores("phoenix")["correctness"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert scores("mlflow")["grounded"]["value"] is True
    assert scores("langsmith")["correctness"] | {"timestamp": 0} == {
        "trace_id": "018f2c3e7a50700080000000" + "0000abcd",
        "span_id": "800000000000abce",
        "name": "correctness",
        "value": 0.5,
        "source": "eval",
        "comment": "late",
        "score_id": "7e1f7e1f-0000-4000-8000-000000000001",
        "timestamp": 0,
    }
    assert {name: score["value"] for name, score in scores("helicone").items()} == {"relevance": 87, "feedback": True}


def test_a_trace_gives_its_spans_user_and_tags_and_is_a_span_where_it_has_none(tmp_path: Path) -> None:
    rows = mapped(read("langfuse", recent("langfuse", tmp_path))[0])
    summary = next(row for row in rows.values() if row.span_name == "summary")
    assert (summary.trace_id, summary.span_id) == ("1b9d6bcdbbfd4b2d9b5dab8dfbbd4bed", "975e2a8ad9ebae0b")
    assert (summary.user_id, summary.session_id, summary.tags) == ("grace", "batch-1", ["nightly"])
    assert summary.total_cost_usd == Decimal("0.00021")
    alone = next(row for row in rows.values() if row.span_name == "only a trace")
    assert (alone.user_id, alone.input_text, alone.output_text) == ("grace", "hello", "good day")


async def test_importing_everything_twice_stores_it_once(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, owner: asyncpg.Connection,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    await project("alpha")
    (tmp_path / "token").write_text(token("developer", ["alpha"]))
    arguments = ["--project", "alpha", "--url", app_server.base_url, "--token-file", str(tmp_path / "token")]
    told = {}
    for _ in range(2):
        for tool in TOOLS:
            words = ["import", "--from", tool, *arguments, *map(str, recent(tool, tmp_path))]
            code = await asyncio.to_thread(cli.main, words)
            told[tool] = capsys.readouterr()
            assert code == (1 if LEFT_OUT[tool] else 0), told[tool].err
            assert all(reason in told[tool].err for reason in LEFT_OUT[tool])
    assert told["langfuse"].out == "spans\t5\nscores\t3\nleft out\t2\nrefused\t0\n"
    stored = await owner.fetchrow("SELECT count(*), sum(total_cost_usd) FILTER (WHERE is_generation) FROM llm_traces")
    assert stored is not None
    items = [item for tool in TOOLS for item in read(tool, recent(tool, tmp_path))[0]]
    assert stored["count"] == sum(item.span is not None for item in items)
    more = Decimal("0.00021") + 2 * Decimal("0.000475")
    assert stored["sum"] == sum((Decimal(call[5]) for call in CALLS.values()), more)
    assert await owner.fetchval("SELECT count(*) FROM scores") == sum(item.score is not None for item in items)
    assert await owner.fetchval("SELECT count(DISTINCT service_name) FROM llm_traces") == len(TOOLS)


def test_every_form_of_file_has_the_same_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import gzip

    import pyarrow.parquet as pq

    records = [{"id": "a", "n": 1, "inner": {"x": "é"}}, {"id": "b", "n": 2, "inner": {"x": "z"}}]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
    (tmp_path / "array.json").write_text(json.dumps(records, indent=2))
    (tmp_path / "page.json").write_text(json.dumps({"data": records, "meta": {}}))
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress((tmp_path / "lines.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "table.parquet")
    for name in ("lines.jsonl", "array.json", "page.json", "lines.jsonl.gz", "table.parquet"):
        assert [row.record for row in rows_of(tmp_path / name)] == records, name
    (tmp_path / "cells.csv").write_text("id,n\na,1\nb\n")
    assert [row.record for row in rows_of(tmp_path / "cells.csv")] == [{"id": "a", "n": "1"}, None]
    (tmp_path / "noise").write_bytes(b"\x00\x01")
    with pytest.raises(UnreadableFileError, match="noise"):
        list(rows_of(tmp_path / "noise"))


def test_ids_that_fit_stay_and_others_are_always_made_alike() -> None:
    forms = ("hex", "uuid", "base64")
    assert identifier("0AF7651916cd43dd8448eb211c80319c", 32, forms) == "0af7651916cd43dd8448eb211c80319c"
    assert identifier("tr-0af7651916cd43dd8448eb211c80319c", 32, forms) == "0af7651916cd43dd8448eb211c80319c"
    assert identifier("CvdlGRbNQ92ESOshHIAxnA==", 32, forms) == "0af7651916cd43dd8448eb211c80319c"
    made = identifier("my-trace", 32, forms)
    assert made == identifier("my-trace", 32, forms) != identifier("my-trace", 32, forms, within="another")
    assert identifier("0" * 16, 16, forms) != "0" * 16


@pytest.mark.parametrize(
    "value",
    ["2026-11-01 10:00:00.5", "2026-11-01T11:00:00.5+01:00", "2026-11-01T10:00:00.500Z", 1793527200.5, 1793527200500,
     1793527200500000, 1793527200500000000, "1793527200500", datetime(2026, 11, 1, 10, 0, 0, 500000)],
)  # fmt: skip
def test_a_moment_of_every_form_is_the_same(value: Any) -> None:
    assert nanoseconds(value) == 1793527200500000000
