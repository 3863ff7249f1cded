"""Filter documents: what is refused, where the error points, and what the SQL may hold."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.errors import ApiError, FilterTooComplex, InsufficientScope, InvalidBody
from server.queries.filters.filter_sql import MOST_BINDS, compile_filter, escape_like
from server.queries.filters.filter_tree import canonical, parse_filter
from server.queries.filters.operators import OPERATORS
from server.queries.filters.regex_subset import check_regex
from server.queries.filters.span_fields import FIELDS, TYPE_OPERATORS, field_named
from server.queries.filters.time_range import TimeRange
from server.storage.row_scope import RowScope

SCOPE = RowScope(("alpha",))
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def leaf(field: Any = "model", operator: Any = "eq", value: Any = "x") -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def nested(levels: int) -> Any:
    document: Any = leaf()
    for _ in range(levels - 1):
        document = {"not": document}
    return document


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (None, "/filter"),
        ([], "/filter"),
        ("x", "/filter"),
        ({}, "/filter"),
        ({"and": []}, "/filter/and"),
        ({"or": leaf()}, "/filter/or"),
        ({"xor": [leaf()]}, "/filter/xor"),
        ({"a/b~": []}, "/filter/a~1b~0"),
        ({"and": [leaf()], "or": [leaf()]}, "/filter"),
        ({"and": [leaf(), {"not": 1}]}, "/filter/and/1/not"),
        ({"trace": leaf()}, "/filter/trace"),
        ({"trace": {"has": {"session": {"has": leaf()}}}}, "/filter/trace/has/session"),
        ({"field": "model", "operator": "eq"}, "/filter/value"),
        ({**leaf(), "extra": 1}, "/filter/extra"),
        (leaf(field=1), "/filter/field"),
        (leaf(field="modle"), "/filter/field"),
        (leaf(field="__class__"), "/filter/field"),
        (leaf(field="attribute."), "/filter/field"),
        (leaf(field="attribute." + "k" * 257), "/filter/field"),
        (leaf(field="attribute.\0"), "/filter/field"),
        (leaf(field="attribute.\ud800"), "/filter/field"),
        (leaf(operator="like"), "/filter/operator"),
        (leaf(operator="gt"), "/filter/operator"),
        (leaf(operator=["eq"]), "/filter/operator"),
        (leaf(value=5), "/filter/value"),
        (leaf(value=["x"]), "/filter/value"),
        (leaf(value="\0"), "/filter/value"),
        (leaf(value="\ud800"), "/filter/value"),
        (leaf(value="x" * 1025), "/filter/value"),
        (leaf("model", "contains", ""), "/filter/value"),
        (leaf("model", "in", []), "/filter/value"),
        (leaf("model", "in", "x"), "/filter/value"),
        (leaf("model", "in", ["x"] * 101), "/filter/value"),
        (leaf("model", "in", ["x", None]), "/filter/value"),
        (leaf("model", "exists", "yes"), "/filter/value"),
        (leaf("status", "eq", "fine"), "/filter/value"),
        (leaf("duration", "gt", "5"), "/filter/value"),
        (leaf("duration", "gt", True), "/filter/value"),
        (leaf("duration", "gt", None), "/filter/value"),
        (leaf("duration", "gt", float("inf")), "/filter/value"),
        (leaf("duration", "gt", float("nan")), "/filter/value"),
        (leaf("duration", "gt", 10**400), "/filter/value"),
        (leaf("duration", "between", [2, 1]), "/filter/value"),
        (leaf("duration", "between", [1]), "/filter/value"),
        (leaf("total_tokens", "eq", 1.5), "/filter/value"),
        (leaf("total_tokens", "eq", 2**63), "/filter/value"),
        (leaf("ts", "gt", "2026-01-01T00:00:00"), "/filter/value"),
        (leaf("ts", "gt", "0001-01-01T00:00:00Z"), "/filter/value"),
        (leaf("score.quality", "gt", "high"), "/filter/value"),
        (leaf("text", "search", "\0"), "/filter/value"),
        (leaf("text", "search", "word " * 60), "/filter/value"),
        (leaf("model", "regex", "(a+)+$"), "/filter/value"),
    ],
)
def test_documents_that_make_no_sense_are_refused_with_a_pointer(document: Any, pointer: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        parse_filter(document, now=NOW)
    assert caught.value.errors[0]["pointer"] == pointer
    json.dumps(caught.value.errors).encode()


@pytest.mark.parametrize(
    "document",
    [
        nested(6),
        nested(1000),
        {"and": [leaf()] * 51},
        {"or": [{"and": [leaf()] * 17}] * 3},
        {"and": [{}] * 100_000},
    ],
)
def test_filters_that_are_too_large_are_refused_before_sql(document: Any) -> None:
    """At most five levels and 50 comparisons."""
    with pytest.raises(FilterTooComplex):
        parse_filter(document)


def test_largest_filter_is_taken_and_stays_below_a_thousand_binds() -> None:
    tree = parse_filter({"and": [leaf("score.q", "in", [f"v{number}", number]) for number in range(50)]})
    params: list[Any] = []
    compile_filter(tree, params, scope=SCOPE)
    assert len(params) == 150 < MOST_BINDS
    parse_filter(nested(5))


@pytest.mark.parametrize("operator", ["eq", "ne", "in", "not_in", "exists", "contains", "regex"])
@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: {"or": [leaf(), {"not": part}]}])
def test_project_cannot_be_named_inside_of_a_filter(operator: str, wrap: Any) -> None:
    """The project predicate is outside of the caller's tree."""
    with pytest.raises(InvalidBody, match="projects are chosen by project_id"):
        parse_filter(wrap(leaf("project_id", operator, "beta")))


HOSTILE = [
    "'", "''", "\"", "\\", "\\'", "--", "/*", "*/", ";", "$1", "$$", "$tag$", "?", "??", ":name", "::text", "%", "%%",
    "%s", "%(x)s", "{0}", "{t}", "{column}", "_", "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE llm_traces; --",
    "1; SELECT pg_sleep(10)", "' UNION SELECT 1 --", "E'\\\\'", "U&'\\0027'", "\u2019", "\uff07", "');--", "x' AND 1=1",
    "COPY x TO PROGRAM 'id'", "$.a ? (@ > 1)", "}}", "{{", "a\nb", "a\tb", "\r\n", "\u202e", "e\u0301", "\U0001f600",
    "NULL", "true", "ARRAY[1]", "(SELECT 1)", "||", "&&", "!!", "<->", "'a':*", "a & | b", "<99999->", ":*",
    "pg_sleep(5)",
]  # fmt: skip


def test_nothing_of_a_caller_stands_in_the_sql() -> None:
    """The text of the statement is the same for a hostile and for an inert value, keys included."""
    shapes = {
        (field, operator): OPERATORS[operator].operand == "list"
        for field in ("model", "input_text", "attribute.team", "resource.host", "tags")
        for operator in ("eq", "ne", "in", "contains", "starts_with", "any", "all")
        if operator in (FIELDS[field].operators if field in FIELDS else TYPE_OPERATORS[FIELDS["model"].type][:6])
    }
    for text in HOSTILE:
        for (field, operator), is_list in shapes.items():
            params: list[Any] = []
            hostile = compile_filter(
                parse_filter(leaf(field, operator, [text] if is_list else text)), params, scope=SCOPE
            )
            inert = compile_filter(
                parse_filter(leaf(field, operator, ["inert"] if is_list else "inert")), [], scope=SCOPE
            )
            assert hostile == inert
            assert any(text in str(value) or escape_like(text) in str(value) for value in [*params, *params[0]])
        keyed: list[Any] = []
        assert compile_filter(parse_filter(leaf(f"attribute.{text}")), keyed, scope=SCOPE) == compile_filter(
            parse_filter(leaf("attribute.inert")), [], scope=SCOPE
        )
        assert text in keyed


def test_wildcards_are_literal() -> None:
    """``%``, ``_`` and the escape character itself stand for themselves."""
    assert escape_like("100%_\\") == "100\\%\\_\\\\"
    params: list[Any] = []
    compile_filter(parse_filter(leaf("model", "ends_with", "\\")), params, scope=SCOPE)
    assert params == ["%\\\\"]


def test_content_is_refused_to_those_who_may_not_read_it() -> None:
    """At any depth, under any negation, keyed fields included."""
    blind = RowScope(("alpha",), may_read_content=False)
    for field in [*(name for name, item in FIELDS.items() if item.is_content and item.filterable), "attribute.team"]:
        tree = (
            parse_filter({"or": [leaf(), {"not": {"trace": {"has": leaf(field, "exists", True)}}}]})
            if (field != "text")
            else parse_filter({"not": leaf("text", "search", "x")})
        )
        with pytest.raises(InsufficientScope):
            compile_filter(tree, [], scope=blind)
        compile_filter(tree, [], scope=SCOPE)
    compile_filter(parse_filter(leaf("resource.host")), [], scope=blind)


def test_spans_of_the_same_trace_are_looked_for_near_the_window() -> None:
    params: list[Any] = []
    window = TimeRange(NOW - timedelta(hours=1), NOW)
    sql = compile_filter(parse_filter({"trace": {"has": leaf()}}), params, scope=SCOPE, window=window)
    assert params[:2] == [NOW - timedelta(hours=25), NOW + timedelta(days=1)]
    assert re.search(r"h\.project_id = t\.project_id AND h\.trace_id = t\.trace_id", sql)


def test_equal_questions_have_one_canonical_form() -> None:
    one = {"and": [leaf("status", "in", ["error", "OK"]), leaf("cost", "gt", 0.5)]}
    other = {"and": [leaf("total_cost_usd", "gt", 0.50), leaf("status_code", "in", ["success", "ERROR", "error"])]}
    assert canonical(parse_filter(one)) == canonical(parse_filter(other))
    assert canonical(parse_filter(leaf(value=None))) == canonical(parse_filter(leaf(operator="exists", value=False)))


def test_relative_times_are_resolved_against_the_given_moment() -> None:
    tree = parse_filter(leaf("ts", "gte", "now-1h"), now=NOW)
    assert canonical(tree)["value"] == "2026-11-23T11:00:00.000000Z"


@pytest.mark.parametrize(
    "pattern",
    ["^gpt-4", "o1|o3", "(?i)GPT", "[a-z0-9._-]+$", "a{2,3}b?", "\\d+\\.\\d", "(?:a|b)c*", "[^/]*", "a.c", ""],
)
def test_plain_patterns_are_taken(pattern: str) -> None:
    check_regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+", "(a*b)*", "((a{1,9}){1,9})", "(a|b+){2}", "a{21}", "a{2,100000}", "a{3,2}", "a{x}", "a{", "a{\u0662}",
        "(a)\\1", "(?=a)", "(?!a)", "(?<x>a)", "(?i", "\\b", "\\y", "\\x41", "\\", "a**", "a+?", "*a", "^*", "[", "[]",
        "[[:alpha:]]", "[b-a]", "(", ")", "a)", "((((((((((((a))))))))))))", "a" * 201, "***:a",
    ],
)  # fmt: skip
def test_patterns_that_could_blow_up_are_refused(pattern: str) -> None:
    """No nesting of repetitions, no back references, no look-around, small bounds."""
    with pytest.raises(ValueError, match="pattern"):
        check_regex(pattern)


def test_every_field_is_documented_and_complete() -> None:
    """The table is consistent: names, aliases, operators, sentences."""
    for name, field in FIELDS.items():
        assert field.sentence.endswith("."), name
        assert field_named(name) is field
        assert set(field.operators) <= OPERATORS.keys()
        for alias in (field.parameter, field.range_parameter):
            assert alias is None or field_named(alias) is field
    assert issubclass(FilterTooComplex, ApiError)
