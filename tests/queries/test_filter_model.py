"""Random filters on random spans: the rows that SQL finds are those that plain Python finds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.http.services import Services
from server.queries.filters.filter_tree import canonical, parse_filter
from server.queries.filters.operators import OPERATORS, SEARCHES
from server.queries.filters.span_fields import FIELDS, KEYED_OPERATORS, FieldType, TraceField
from server.queries.filters.time_range import TimeRange
from server.queries.lists import list_reader
from server.queries.lists.list_question import VIEWS, ListQuestion, Sort
from server.queries.lists.list_reader import Total, list_spans
from server.storage.project_branches import MOST_BRANCHES
from server.storage.row_scope import RowScope
from tests.queries.filter_oracle import matches
from tests.queries.sample_spans import START, WORDS, sample_spans
from tests.span_factory import store

SPANS = sample_spans(seed=6, count=90)
SCOPE = RowScope(("alpha", "beta"))
TEXTS = ("alpha", "BETA", "0%", "_", "\\", "京都", "بالعالم", "a b", "%", "", "gpt-4o", "'; --", "$1", "é")


def values_of(name: str) -> Any:
    """Return values that spans have for the field, and some that none has."""
    field = FIELDS[name]
    match field.type:
        case FieldType.BOOLEAN:
            return st.booleans()
        case FieldType.TAGS:
            return st.sampled_from(["a", "b", "ü", "a b", "c"])
        case FieldType.TIME:
            return st.integers(0, 20).map(lambda minute: int(START.timestamp()) + minute * 60)
        case FieldType.INTEGER:
            return st.sampled_from([0, 100, 200, 150])
        case FieldType.NUMBER | FieldType.MONEY:
            return st.sampled_from([0, 0.1, 0.25, 0.5, 1, 3])
    if field.choices:
        return st.sampled_from([*field.choices, *dict(field.choice_aliases)])
    known = [getattr(span, name) for span in SPANS]
    return st.sampled_from(sorted({value for value in known if value is not None} | {"gpt-4o", "none such", "%"}))


SEARCHED = (
    "model",
    "provider",
    "status_code",
    "error_type",
    "error_message",
    "session_id",
    "user_id",
    "trace_id",
    "parent_span_id",
    "span_name",
    "total_tokens",
    "total_cost_usd",
    "duration_ms",
    "ttft_ms",
    "ts",
    "is_generation",
    "has_error",
    "is_root",
    "tags",
    "input_text",
    "output_text",
)


def test_each_field_with_sql_of_its_own_is_searched() -> None:
    """A new row of the table with an expression is compared with the oracle, or one of these says why not."""
    own = {name for name, field in FIELDS.items() if field.sql and field.type is not FieldType.JSON}
    of_details = {name for name in own if "usage_details" in str(FIELDS[name].sql)}  # plain look-ups of one key
    assert own - of_details <= {*SEARCHED, "text"}


@st.composite
def comparisons(draw: Any) -> dict[str, Any]:
    """Draw a leaf with a field, an operator that it takes and a value of the right shape."""
    name = draw(st.sampled_from([*SEARCHED, "text", "attribute.team", "attribute.size"]))
    if name.startswith("attribute."):
        operators: tuple[str, ...] = KEYED_OPERATORS
        one = st.sampled_from(["search", "Ads", "100%", "2.5", "true", 1, 2.5, True])
        number = st.sampled_from([1, 2, 2.5])
    elif name == "text":
        operators = tuple(word for word in FIELDS[name].operators if not OPERATORS[word].is_ranking)
        one = number = st.nothing()
    else:
        operators = FIELDS[name].operators
        one = number = values_of(name)
    operator = draw(st.sampled_from(operators))
    if operator == "exists":
        value = draw(st.booleans())
    elif operator in SEARCHES:
        words = ["alpha", "price", "BETA", "x", "京都", "東", "天気", "مرحبا"]
        value = draw(st.sampled_from([sign + word for word in words for sign in ("", "-")]))
    elif operator in {"contains", "not_contains", "starts_with", "ends_with"}:
        value = draw(st.sampled_from([text for text in (*TEXTS, *WORDS) if text]))
    elif operator == "regex":
        value = draw(st.sampled_from(["^gpt", "o(1|-mini)?$", "[a-f0-9]+", "4.-", "^s[0-2]$", "\\d\\d"]))
    elif operator in {"in", "not_in", "any", "all"}:
        value = draw(st.lists(one, min_size=1, max_size=4))
    elif operator == "between":
        value = sorted(draw(st.tuples(number, number)))
    elif operator in {"gt", "gte", "lt", "lte"}:
        value = draw(number)
    else:
        value = draw(st.one_of(st.none(), one))
    return {"field": name, "operator": operator, "value": value}


def trees() -> Any:
    """Return filters of at most five levels."""
    leaf = comparisons()

    def grow(inner: Any) -> Any:
        return st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"and": parts}),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"or": parts}),
            inner.map(lambda part: {"not": part}),
        )

    simple = st.one_of(leaf, grow(leaf))
    whole = st.builds(lambda word, part: {word: {"has": part}}, st.sampled_from(["trace", "session"]), simple)
    return grow(st.one_of(simple, whole))


@pytest.fixture
async def stored(services: Services, project: Any) -> Services:
    """The spans of the model, two thirds in alpha and one in beta, by trace."""
    for name in ("alpha", "beta", "gamma"):
        await project(name)
    await store(services, "alpha", [span for span in SPANS if int(span.trace_id, 16) % 3])
    await store(services, "beta", [span for span in SPANS if not int(span.trace_id, 16) % 3])
    await store(services, "gamma", sample_spans(seed=7, count=30))
    return services


def project_of(span: Any) -> str:
    """Return the project of a span: traces are whole in one project, sessions with one id are two."""
    return "alpha" if int(span.trace_id, 16) % 3 else "beta"


@given(document=trees())
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_sql_finds_what_python_finds(stored: Services, document: dict[str, Any]) -> None:
    """The model: any filter, any nesting, two projects at once, a third one that must not show."""
    tree = parse_filter(document)
    page = await list_spans(stored.reads, SCOPE, ListQuestion(filter=tree, limit=1000, fields=("span_id",)))
    expected = set()
    for name in ("alpha", "beta"):
        own = [span for span in SPANS if project_of(span) == name]
        expected |= {span.span_id for span in own if matches(tree, span, own)}
    assert sorted(row["span_id"] for row in page.rows) == sorted(expected)
    assert canonical(tree) == canonical(parse_filter(document))


SHAPES: dict[str, Any] = {
    "truth": [True, False],
    "text": ["a"],
    "pattern": ["a"],
    "search": ["alpha", "-alpha"],
}
ONE: dict[FieldType, Any] = {
    FieldType.INTEGER: 100,
    FieldType.NUMBER: 0.5,
    FieldType.MONEY: 0.2,
    FieldType.TIME: "now-2d",
    FieldType.BOOLEAN: True,
}


def sample_values(field: TraceField | None, operator: str) -> list[Any]:
    """Return values of each shape that the operator takes with the field."""
    shape = OPERATORS[operator].operand
    if shape in SHAPES:
        return list(SHAPES[shape])
    if field is None:
        ones: list[Any] = [2.5] if operator in {"gt", "gte", "lt", "lte", "between"} else ["true", 2.5, True]
    elif field.choices:
        ones = [field.choices[0]]
    else:
        ones = [ONE.get(field.type, "a")]
    if shape == "pair":
        return [[one, one] for one in ones]
    return [ones] if shape == "list" else ones


async def test_each_field_and_each_operator_and_the_negation_are_all_rows(stored: Services, owner: Any) -> None:
    """Every field and every operator of its type runs, in both views, and logic is two-valued everywhere."""
    await owner.execute(
        "INSERT INTO scores (project_id, score_id, trace_id, name, data_type, value, string_value, source, ts) VALUES"
        " ('alpha', '1', $1, 'q', 'numeric', 2.5, NULL, 'api', now()),"
        " ('alpha', '2', $2, 'q', 'boolean', 1, NULL, 'api', now()),"
        " ('alpha', '3', $3, 'q', 'categorical', NULL, 'a', 'api', now())",
        *(f"{number:032x}" for number in (1, 2, 4)),
    )
    for view in VIEWS.values():
        everything = (await list_spans(stored.reads, SCOPE, ListQuestion(view=view.name, limit=1000))).rows
        cells: list[tuple[str, TraceField | None, str]] = []
        seen: set[FieldType] = set()
        for name, known in view.fields.items():
            # All operators of a type once; after that the fields differ in their expression only.
            cells += [(name, known, operator) for operator in known.operators[: 1 if known.type in seen else None]]
            seen.add(known.type)
        if view.name == "spans":
            keys = ("attribute.size", "resource.host", "score.q")
            cells += [(name, None, operator) for name in keys for operator in KEYED_OPERATORS]
        # A ranking is no predicate: tests/semantic has its rules.
        for name, field, operator in (cell for cell in cells if not OPERATORS[cell[2]].is_ranking):
            for value in sample_values(field, operator):
                document = {"field": name, "operator": operator, "value": value}
                found = []
                for part in (document, {"not": document}):
                    tree = parse_filter(part, resolve=view.resolve)
                    question = ListQuestion(
                        view=view.name, filter=tree, limit=1000, fields=("trace_id",), total="exact"
                    )
                    page = await list_spans(stored.reads, SCOPE, question)
                    assert page.total is not None
                    assert len(page.rows) == page.total.value
                    found.append(len(page.rows))
                assert sum(found) == len(everything), document


SORTS = ("ts", "total_cost_usd", "total_tokens", "ttft_ms", "duration_ms", "model", "status_code")


def expected_order(sort: list[Sort]) -> list[str]:
    """Return all spans in that order: missing values last in both directions, ties by time and ids."""
    asked = [key.field for key in sort]
    keys = [*sort, *(Sort(name, sort[-1].descending) for name in ("ts", "trace_id", "span_id") if name not in asked)]
    ordered = list(SPANS)
    for key in reversed(keys):
        name = key.field
        present = [span for span in ordered if getattr(span, name) is not None]
        missing = [span for span in ordered if getattr(span, name) is None]
        ordered = sorted(present, key=lambda span: getattr(span, name), reverse=key.descending) + missing
    return [span.span_id for span in ordered]


@given(
    sort=st.lists(
        st.builds(Sort, st.sampled_from(SORTS), st.booleans()), min_size=1, max_size=3, unique_by=lambda key: key.field
    ),
    limit=st.integers(1, 40),
    fields=st.sampled_from([("span_id",), ("span_id", "input_text", "attributes")]),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_join_up_in_any_order(
    stored: Services, sort: list[Sort], limit: int, fields: tuple[str, ...]
) -> None:
    """Every page but the last is full, has_more is true exactly when another row exists."""
    question = ListQuestion(sort=tuple(sort), limit=limit, fields=fields)
    seen: list[str] = []
    while True:
        page = await list_spans(stored.reads, SCOPE, question)
        seen += [row["span_id"] for row in page.rows]
        if page.next_position is None:
            break
        assert len(page.rows) == limit
        question = ListQuestion(sort=tuple(sort), limit=limit, fields=fields, position=page.next_position)
    assert seen == expected_order(sort)


@pytest.mark.parametrize("descending", [True, False])
async def test_pages_of_traces_join_up_in_any_order(stored: Services, descending: bool) -> None:
    everything = (await list_spans(stored.reads, SCOPE, ListQuestion(view="traces", limit=1000))).rows
    for name in VIEWS["traces"].sortable():
        question = ListQuestion(view="traces", sort=(Sort(name, descending),), limit=17, fields=("trace_id", name))
        seen: list[str] = []
        while True:
            page = await list_spans(stored.reads, SCOPE, question)
            seen += [row["trace_id"] for row in page.rows]
            if page.next_position is None:
                break
            question = replace(question, position=page.next_position)
        ordered = sorted(everything, key=lambda row: (row[name], row["ts"], row["trace_id"]), reverse=descending)
        assert seen == [row["trace_id"] for row in ordered], name


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("fields", [("span_id",), ("span_id", "input_text")])
async def test_a_search_that_is_read_in_slices_joins_up_like_any_list(
    stored: Services, monkeypatch: pytest.MonkeyPatch, descending: bool, fields: tuple[str, ...]
) -> None:
    """Its index knows no time, so the nearest part of a range is read first (docs/decisions/0080-list-path.md)."""
    tree = parse_filter({"field": "text", "operator": "search", "value": "alpha"})
    sort = [Sort("ts", descending)]
    wanted = {span.span_id for span in SPANS if matches(tree, span, SPANS)}
    expected = [span_id for span_id in expected_order(sort) if span_id in wanted]
    end = START + timedelta(hours=1)
    for window in (TimeRange(START, end), TimeRange(START, None), TimeRange(None, end), TimeRange()):
        for length, limit in ((timedelta(minutes=45), 7), (timedelta(minutes=3), 4), (timedelta(days=3), 1000)):
            monkeypatch.setattr(list_reader, "FIRST_SLICE", length)
            question = ListQuestion(window=window, filter=tree, sort=tuple(sort), limit=limit, fields=fields)
            seen: list[str] = []
            while True:
                page = await list_spans(stored.reads, SCOPE, question)
                seen += [row["span_id"] for row in page.rows]
                if page.next_position is None:
                    break
                assert len(page.rows) == limit
                question = replace(question, position=page.next_position)
            assert seen == expected, (window, length)


async def test_rows_give_back_what_was_stored(stored: Services) -> None:
    """All fields of each span, money with all its digits, times with microseconds."""
    fields = tuple(name for name, field in FIELDS.items() if field.selectable)
    page = await list_spans(stored.reads, SCOPE, ListQuestion(limit=1000, fields=fields))
    by_id = {row["span_id"]: row for row in page.rows}
    for span in SPANS:
        row = by_id[span.span_id]
        for name in ("ts", "model", "tags", "attributes", "input_text", "duration_ms", "total_tokens", "user_id"):
            assert row[name] == getattr(span, name)
        cost = span.total_cost_usd
        assert row["total_cost_usd"] == (None if cost is None else Decimal(cost))


async def test_many_projects_at_once_give_the_same_list(stored: Services) -> None:
    """Beyond 32 projects one scan takes the place of a branch each: other statement, same rows."""
    many = RowScope((*SCOPE.projects, *(f"empty-{number}" for number in range(MOST_BRANCHES))))
    tree = parse_filter({"field": "model", "operator": "exists", "value": True})
    for sort in (Sort("ts"), Sort("total_cost_usd", False)):
        question = ListQuestion(filter=tree, sort=(sort,), limit=25, fields=("span_id", "input_text"), total="exact")
        while True:
            few_pages, many_pages = [await list_spans(stored.reads, scope, question) for scope in (SCOPE, many)]
            assert (few_pages.rows, few_pages.total) == (many_pages.rows, many_pages.total)
            assert few_pages.next_position == many_pages.next_position
            if few_pages.next_position is None:
                break
            question = replace(question, position=few_pages.next_position)
    nobody = await list_spans(stored.reads, RowScope(()), ListQuestion(total="capped"))
    assert (nobody.rows, nobody.total) == ([], Total(0, "eq"))
