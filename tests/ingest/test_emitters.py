"""Habits of single emitters: a span of each, and the row that it must become."""

from __future__ import annotations

import pytest

from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import decode_traces
from tests.ingest.emitters import (
    coding_agents,
    instrumentations,
    javascript_frameworks,
    platforms,
    python_frameworks,
    shared_shapes,
    usage_spellings,
)
from tests.ingest.emitters.case_form import Case
from tests.ingest.spans_in_both_encodings import JSON, NOW, as_json, map_one, request, span

TABLES = (
    coding_agents, instrumentations, javascript_frameworks, platforms, python_frameworks, shared_shapes,
    usage_spellings,
)  # fmt: skip
CASES: dict[str, Case] = {name: case for table in TABLES for name, case in table.CASES.items()}


def test_no_two_cases_have_one_name() -> None:
    assert len(CASES) == sum(len(table.CASES) for table in TABLES)


@pytest.mark.parametrize("name", CASES)
def test_span_of_an_emitter_becomes_the_row_that_it_means(name: str) -> None:
    values, fields, expected = CASES[name]
    record = map_one(values, **fields)
    assert {column: getattr(record, column) for column in expected} == expected


def test_schema_url_and_scope_version_are_kept_for_the_span() -> None:
    document = request(span(), scope="lib")
    document["resourceSpans"][0]["schemaUrl"] = "https://example.org/1"
    scoped = {**document["resourceSpans"][0]["scopeSpans"][0], "schemaUrl": "https://example.org/2"}
    scoped["scope"] = {"name": "lib", "version": "3.1"}
    document["resourceSpans"][0]["scopeSpans"].append(scoped)
    records = map_spans(decode_traces(as_json(document), JSON), now=NOW).records
    assert [record.attributes["otel.schema_url"][-1] for record in records] == ["1", "2"]
    assert records[1].attributes["otel.scope.version"] == "3.1"
