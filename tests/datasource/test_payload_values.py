"""The text that the plugin makes of a variable is turned back into its values."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasource.panels.payload_values import (
    parse_boolean,
    parse_choices,
    parse_integer,
    parse_number,
    parse_text,
    parse_values,
    variable_values,
)
from server.errors import InvalidParameter

_LEFT_AS_IT_IS = "!'()*-._~@:$,;"
_ALL_WORDS = {"", "$__all", "__all", "All", "*", ".*"}
# Names that a person may give to a user, a model or a tag; NUL and lone surrogates never reach a payload.
any_value = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)
plain_value = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/@ -]{0,20}[A-Za-z0-9]", fullmatch=True).filter(
    lambda value: value not in _ALL_WORDS
)


def grafana_query_string(name: str, values: list[str]) -> str:
    """Format as Grafana's ``${name:queryparam}`` does: like encodeURIComponent, but ``@ : $ , ;`` stay."""
    return "&".join(f"var-{name}={quote(value, safe=_LEFT_AS_IT_IS)}" for value in values)


def grafana_regex(values: list[str]) -> str:
    """Format as Grafana's 'regex' formatter of builder mode does."""
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", lambda match: "\\" + match[0], value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


@given(st.lists(any_value.filter(lambda value: value != "$__all"), min_size=1, max_size=5, unique=True))
def test_query_string_form_is_lossless(values: list[str]) -> None:
    assert parse_values("model", grafana_query_string("model", values)) == tuple(values)


@given(any_value.filter(lambda value: value != "$__all"))
def test_query_string_form_of_one_text_is_lossless(value: str) -> None:
    assert parse_text("q", grafana_query_string("q", [value])) == value


@given(st.lists(plain_value, min_size=1, max_size=5, unique=True))
def test_builder_mode_values_are_unescaped(values: list[str]) -> None:
    assert parse_values("model", grafana_regex(values), escaped=True) == tuple(values)


awkward_value = st.builds("{}|{}".format, plain_value, plain_value) | st.builds("({})".format, plain_value)


@given(st.lists(awkward_value, min_size=2, max_size=4, unique=True))
def test_builder_mode_keeps_bars_and_parentheses_of_values(values: list[str]) -> None:
    assert parse_values("model", grafana_regex(values), escaped=True) == tuple(values)


@given(st.lists(plain_value, min_size=1, max_size=5, unique=True))
def test_json_csv_glob_and_percent_encoded_forms_agree(values: list[str]) -> None:
    expected = tuple(values)
    assert parse_values("model", values) == expected
    assert parse_values("model", json.dumps(values)) == expected
    assert parse_values("model", ",".join(values)) == expected
    if len(values) > 1:
        assert parse_values("model", "{" + ",".join(values) + "}") == expected
        assert parse_values("model", "%7B" + "%2C".join(quote(value, safe="") for value in values) + "%7D") == expected


@pytest.mark.parametrize(
    "nothing",
    [None, "", [], "$__all", "All", "*", ".*", ["$__all"], [""], "var-model=", "var-model=$__all", "%7B%7D", "__all",
     "${__searchFilter}", "{}", "(|)"],
)  # fmt: skip
def test_all_and_nothing_mean_no_filter(nothing: object) -> None:
    assert parse_values("model", nothing) == ()


@pytest.mark.parametrize(
    "reference", ["$model", "${model}", "${model:queryparam}", "[[model]]", "a,$model", ["$model"]]
)
def test_a_variable_that_was_not_replaced_is_an_error(reference: object) -> None:
    with pytest.raises(InvalidParameter, match="was not replaced"):
        parse_values("model", reference)


def test_a_dollar_in_a_value_is_no_variable() -> None:
    assert parse_values("search", ["$5 off"]) == ("$5 off",)
    assert parse_text("search", "costs $5") == "costs $5"
    assert parse_text("search", "var-q=$model") == "$model"


def test_numbers_and_booleans_arrive_as_text_or_as_themselves() -> None:
    assert parse_values("limit", 5) == ("5",)
    assert parse_values("flag", True) == ("true",)
    assert parse_integer("limit", "10", least=1, most=100) == 10
    assert parse_integer("limit", "var-limit=10", least=1, most=100) == 10
    assert parse_number("x", "0.5") == 0.5
    assert parse_number("x", "-3") == -3
    assert parse_boolean("roots", "true") is True
    assert parse_boolean("roots", False) is False
    assert parse_boolean("roots", "") is None


@pytest.mark.parametrize("raw", ["ten", "nan", "inf", "1e400", True, "1,2", {"a": 1}])
def test_what_is_no_number_is_refused(raw: object) -> None:
    with pytest.raises(InvalidParameter):
        parse_number("limit", raw)


@pytest.mark.parametrize("raw", [0, 101, 1.5, "1.5"])
def test_integers_have_bounds(raw: object) -> None:
    with pytest.raises(InvalidParameter, match="whole number from 1 to 100"):
        parse_integer("limit", raw, least=1, most=100)


def test_two_values_for_a_single_field_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="takes one value"):
        parse_text("trace_id", "var-trace_id=a&var-trace_id=b")


def test_a_text_keeps_its_commas() -> None:
    assert parse_text("search", "a, b") == "a, b"


def test_choices_are_checked_and_named() -> None:
    assert parse_choices("order", "asc", ["asc", "desc"]) == ("asc",)
    with pytest.raises(InvalidParameter, match="must be one of asc, desc"):
        parse_choices("order", "up", ["asc", "desc"])


def test_objects_nul_and_floods_are_refused() -> None:
    for raw in ({"a": 1}, "a\x00b", ["x" * 5000], [str(number) for number in range(1001)]):
        with pytest.raises(InvalidParameter):
            parse_values("model", raw)


def test_all_variables_are_taken_apart() -> None:
    text = "var-ds=llmtraces&var-model=gpt-5&var-model=claude-opus&var-user=bob%20%22q%22&var-step=$__auto"
    assert variable_values(text) == {
        "ds": "var-ds=llmtraces",
        "model": "var-model=gpt-5&var-model=claude-opus",
        "user": "var-user=bob%20%22q%22",
        "step": "var-step=$__auto",
    }
