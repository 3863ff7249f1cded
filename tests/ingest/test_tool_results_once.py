"""The result of a tool once: its own span names the message that the next call has among its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from server.http.services import Services
from server.ingest.mapping.mapping_result import SpanUpdate
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.redaction.redaction_rules import redactor_of
from server.ingest.writing.content_layout import SHORTEST_RESULT, split_content
from server.ingest.writing.content_start import ALWAYS, NEVER, ContentStart
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.filters.filter_tree import parse_filter
from server.queries.lists.list_question import PREVIEW_LENGTH, ListQuestion
from server.queries.lists.list_reader import list_spans
from server.queries.lists.trace_tree import read_span
from tests.conftest import ProjectMaker
from tests.ingest.shared_talks import START, Writer, call, counts, message, migrated_again, rows_of, scope, search, talk
from tests.ingest.test_shared_content_deletion import found_in_dump
from tests.span_factory import make_span

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")

RESULT = '{"results": [' + ", ".join(f'"parcel {number} is on its way"' for number in range(8)) + "]}"
ARGUMENTS = '{"order": "ä 17"}'


def tool(result: str | None = RESULT, **more: Any) -> SpanRecord:
    """Return the span of a tool that was asked for by ``call_1``."""
    values: dict[str, Any] = {
        "ts": START,
        "trace_id": f"{7:032x}",
        "span_id": f"{1:016x}",
        "operation_type": "tool",
        "is_generation": False,
        "input_type": "text",
        "input_text": ARGUMENTS,
        "output_text": result,
        "attributes": {"gen_ai.tool.call.id": "call_1"},
    }
    return make_span(**(values | more))


def next_call(result: str = RESULT, **more: Any) -> SpanRecord:
    """Return the call that has the result among its messages."""
    response = {"type": "tool_call_response", "id": "call_1", "response": result}
    asked = [message("user", "where is my order?"), {"role": "tool", "parts": [response]}]
    values = {"ts": START + timedelta(seconds=1), "trace_id": f"{8:032x}", "span_id": f"{2:016x}"}
    return call(asked, [message("assistant", "on its way")], **(values | more))


async def test_the_result_of_a_tool_is_stored_once(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    writer = Writer(services)
    for span in (tool(), next_call()):
        await writer.store("alpha", [span])
    assert await counts(owner) == (4, 2), "arguments, result, question, answer"
    own = await owner.fetchrow("SELECT * FROM llm_traces WHERE result_alone")
    assert own is not None
    assert [own[name] for name in ("input_text", "output_text", "output_messages")] == [None] * 3
    assert own["search_vector"] is None
    found = await rows_of(services, "alpha")
    for row, span in zip(found, (next_call(), tool()), strict=True):
        for name in ("input_text", "input_messages", "output_text", "output_messages", "attributes"):
            assert row[name] == getattr(span, name), name


async def test_the_tool_itself_is_read_and_found_by_its_result(services: Services, project: ProjectMaker) -> None:
    """By a list of beginnings, by one span, by snippets, and by filters that the database answers."""
    await project("alpha")
    long = tool(RESULT * 20, span_id=f"{3:016x}")
    await Writer(services).store("alpha", [tool(), next_call(), long])
    own = tool()
    page = await list_spans(services.reads, scope("alpha"), ListQuestion(previews=True, limit=10))
    begun = {row["span_id"]: row["output_text"] for row in page.rows}
    assert begun[own.span_id] == RESULT
    assert begun[long.span_id] == (RESULT * 20)[:PREVIEW_LENGTH]
    assert page.clipped_fields == ("output_text",)
    fields = ("input_text", "output_text", "output_messages")
    span = await read_span(services.reads, scope("alpha"), own.trace_id, own.span_id, fields)
    assert span is not None
    assert [span[name] for name in fields] == [ARGUMENTS, RESULT, None]
    for document in (
        search("parcel 7"),
        search('order "is on its way"'),
        {"field": "output_text", "operator": "eq", "value": RESULT},
        {"field": "output_text", "operator": "starts_with", "value": '{"results": ['},
        {"field": "text", "operator": "contains", "value": "7 is on"},
        {"field": "output_messages", "operator": "exists", "value": False},
    ):
        assert own.span_id in [row["span_id"] for row in await rows_of(services, "alpha", document)], document
    marked = ListQuestion(
        filter=parse_filter(search("parcel order")), fields=("span_id",), include=frozenset({"snippets"})
    )
    page = await list_spans(services.reads, scope("alpha"), marked)
    (found,) = [row["snippets"] for row in page.rows if row["span_id"] == own.span_id]
    snippets = {item["field"]: item["snippet"] for item in found}
    assert snippets.keys() == {"input_text", "output_text"}
    assert "<mark>parcel</mark> 0 is on its way" in snippets["output_text"]
    assert "tool_result" not in snippets["output_text"]


async def test_deletion_removes_a_result_with_its_last_span(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    secret = RESULT.replace("parcel 3", "hushhush")
    for first, second in ((tool(secret), next_call(secret)), (next_call(secret), tool(secret))):
        await Writer(services).store("alpha", [tool(secret), next_call(secret)])
        assert await found_in_dump(owner, "hushhush") == {"content_parts"}
        await delete_trace(services.writes, services.freshness, "alpha", first.trace_id)
        (row,) = await rows_of(services, "alpha")
        assert "hushhush" in row["output_text"] + row["input_text"], "the other span still has it"
        await delete_trace(services.writes, services.freshness, "alpha", second.trace_id)
        assert await found_in_dump(owner, "hushhush") == set()
        assert await counts(owner) == (0, 0)


async def test_results_are_redacted_before_they_are_hashed(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """The message of the later call loses the same words, so that both are one part still."""
    await project("alpha")
    redactor = redactor_of({"rules": [{"find": "email"}]}, b"key")
    assert redactor is not None
    spans = [make("ann@example.com, ".join([RESULT, RESULT])) for make in (tool, next_call)]
    for span in spans:
        redactor.redact(span)
    await Writer(services).store("alpha", spans)
    assert await found_in_dump(owner, "ann@example.com") == set()
    assert (await counts(owner))[0] == 4
    assert [row["output_text"] for row in await rows_of(services, "alpha")][1] == spans[0].output_text


async def test_servers_of_earlier_versions_replace_a_result(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """One that knows parts stores those of a later version; one that knows none has texts alone."""
    await project("alpha")
    writer = Writer(services)
    await writer.store("alpha", [tool()])
    await owner.execute("SET app.shares_content = 'on'")
    await owner.execute("UPDATE llm_traces SET total_cost_usd = 1")
    (row,) = await rows_of(services, "alpha")
    assert (row["output_text"], row["output_messages"]) == (RESULT, None), "a change of something else"
    await owner.execute("UPDATE llm_traces SET version = version + 1")
    (row,) = await rows_of(services, "alpha")
    assert row["output_text"] == f"tool: [tool_result call_1] {RESULT}"
    assert row["output_messages"][0]["role"] == "tool"
    await writer.store("alpha", [replace(tool(), duration_ms=9000.0)])
    assert (await rows_of(services, "alpha"))[0]["output_text"] == RESULT
    await owner.execute("RESET app.shares_content")
    await owner.execute("UPDATE llm_traces SET version = version + 1, output_text = 'newer'")
    assert (await rows_of(services, "alpha"))[0]["output_text"] == "newer"
    assert await owner.fetchval("SELECT count(*) FROM llm_traces WHERE result_alone IS NULL") == 1


async def test_a_later_version_may_have_messages_or_a_short_result(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    writer = Writer(services)
    again = next_call(trace_id=tool().trace_id, span_id=tool().span_id, ts=START)
    versions = [tool(), again, tool(), tool("short"), tool()]
    for number, span in enumerate(versions):
        later = replace(span, duration_ms=1000.0 * (number + 1))
        assert await writer.store("alpha", [later]) == 1
        (row,) = await rows_of(services, "alpha")
        assert (row["output_text"], row["output_messages"]) == (span.output_text, span.output_messages)


async def test_a_log_record_about_a_tool_leaves_its_result(services: Services, project: ProjectMaker) -> None:
    await project("alpha")
    await Writer(services).store("alpha", [tool()])
    update = SpanUpdate(ts=START, trace_id=tool().trace_id, span_id=tool().span_id, columns={"user_id": "ann"})
    await services.ingestion.updates.take("alpha", [update])
    (row,) = await rows_of(services, "alpha")
    assert (row["user_id"], row["output_text"], row["output_messages"]) == ("ann", RESULT, None)


@pytest.mark.parametrize(
    "span",
    [
        tool(None),
        tool("x" * (SHORTEST_RESULT - 1)),
        tool(attributes={}),
        tool(attributes={"gen_ai.tool.call.id": ""}),
        tool(attributes={"gen_ai.tool.call.id": 17}),
    ],
    ids=["nothing", "short", "no id", "empty id", "a number"],
)
def test_other_results_stay_in_their_spans(span: SpanRecord) -> None:
    assert split_content(span, with_results=True) is None


def test_a_tool_without_arguments_has_its_result_alone() -> None:
    content = split_content(tool(input_text=None), with_results=True)
    assert content is not None
    assert (len(content.parts), content.inputs, content.result_alone) == (1, 0, True)


async def test_a_database_of_an_earlier_version_shares_results_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """With ``shared`` too: a server of the version before shows the message of the tool."""
    await project("alpha")
    new = ContentStart("shared", services.writes)
    await new.learn()
    assert new.results == ALWAYS, "a database without spans"
    await Writer(services, "inline").store("alpha", talk(1))
    monday = await migrated_again(owner, "0107_tool_results_once.sql", "shared_results_begin")
    for layout, content in (("shared", ALWAYS), ("auto", ALWAYS), ("inline", NEVER)):
        start = ContentStart(layout, services.writes)
        await start.learn()
        assert (start.moment, start.results) == (content, NEVER if layout == "inline" else monday)
    before, after = [
        prepare_span("alpha", tool(ts=at), shared_from=ALWAYS, results_from=monday)
        for at in (monday - timedelta(microseconds=1), monday)
    ]
    assert (before.content, after.content is None) == (None, False)
