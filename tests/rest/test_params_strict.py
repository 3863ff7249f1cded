"""Query strings are read strictly."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from server.errors import BadRequest, FilterTooComplex, InvalidParameter, UnknownParameter
from server.http.request_params import RequestParams
from server.queries.lists.list_question import ListQuestion
from server.rest.list_request import LIST_PARAMETERS, request_from_params

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def read(query: str | bytes) -> ListQuestion:
    raw = query.encode() if isinstance(query, str) else query
    return request_from_params(RequestParams.parse(raw)).question(NOW)


NUMBERS = [
    "%20", "1e400", "NaN", "Infinity", "-Infinity", "-0", "0x10", "%EF%BC%91%EF%BC%92", "1_000", "%2B5", "+5", "true",
    "1e3", "9" * 5000, "1,5", "--1", "1.", ".5", "00", "1%00", "'",
]  # fmt: skip


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    "name", ["limit", "min_duration", "max_ttft", "min_cost", "max_tokens", "min_cached_tokens", "min_prompt_cost"]
)
def test_numbers_are_numbers(name: str, value: str) -> None:
    """Whatever is not plainly a number is an error that names the parameter."""
    with pytest.raises(InvalidParameter) as caught:
        read(f"{name}={value}")
    assert caught.value.errors[0]["parameter"] == name


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1001", "limit=1000000000", "limit=1.5", "min_tokens=1.5", "min_tokens=2e3",
        "min_tokens=9223372036854775808", "min_score.q=x", "from=2026-11-22T00:00:00", "from=0001-01-01T00:00:00Z",
        "to=9999-01-01T00:00:00Z", "from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "from=now-91d",
        "from=2026-11-22T00:00:00+02:00", "min_duration=5&max_duration=4", "min_cost=0.2&max_cost=0.1",
        "model=", "model=%20", "model=a,,b", "model=,", "model=%00", "model=a%ff", "model=%ED%A0%80", "model=%f",
        "%ff=1",
        "model=" + "x" * 1025, "model=" + ",".join(f"m{number}" for number in range(101)), "limit=1&limit=1",
        "view=spans&view=traces", "limit!=5", "not.view=spans", "search=a&search=b", "search!=a", "min_cost!=1",
        "status=fine", "status=", "has_error=yes", "has_error=1", "view=rows", "total=all", "include=events",
        "sort_by=finish_reason", "sort_by=ts;drop", "sort_by=rank", "sort_by=ts,cost,ttft,duration", "sort_by=ts,ts",
        "sort_order=DESC", "fields=*", "fields=__class__", "fields=model,model", "fields=text", "fields=nothing",
        "fields=" + ",".join(f"f{number}" for number in range(200)), "explain=maybe", "cursor=a&cursor=b", "from",
        "attribute." + "k" * 300 + "=x", "search=" + "word+" * 300, "span_kind=x", "view=traces&sort_by=ttft_ms",
        "view=traces&fields=model",
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(query: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(query)
    assert caught.value.errors[0]["parameter"]


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("projct_id=alpha", "did you mean project_id?"),
        ("Model=x", "did you mean model?"),
        ("sortby=ts", "did you mean sort_by?"),
        ("project_id[]=alpha", "did you mean project_id?"),
        ("min_cots=1", "did you mean min_cost?"),
        ("aggregation=p95", "unknown; /docs"),
        ("service_name=x", "did you mean service?"),
        ("status_code=OK", "did you mean status?"),
        ("Latency_ms=5", "did you mean min_duration or max_duration?"),
        ("total_cost_usd=1", "did you mean min_cost or max_cost?"),
        ("input_text=hello", "did you mean search?"),
        ("offset=50", "did you mean cursor?"),
        ("per_page=10", "did you mean limit?"),
        ("start_time=now-1h", "did you mean from?"),
        ("xyzzy=1", "unknown; /docs has those of this route"),
        ("attribute.=1", "unknown"),
        ("__class__=1", "unknown"),
    ],
)
def test_unknown_parameters_are_named(query: str, hint: str) -> None:
    """A dropped filter would widen the answer."""
    with pytest.raises(UnknownParameter, match=r".") as caught:
        read(f"limit=5&{query}")
    assert hint in caught.value.errors[0]["detail"]
    assert caught.value.errors[0]["parameter"] == query.partition("=")[0]


def test_bounds_of_the_query_string() -> None:
    with pytest.raises(BadRequest):
        read("model=" + "x" * 40_000)
    with pytest.raises(BadRequest):
        read("&".join(f"attribute.k{number}=1" for number in range(501)))
    with pytest.raises(FilterTooComplex):
        read("&".join(f"attribute.k{number}=1" for number in range(51)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model=a,b", "model=b&model=a&model=a"),
        ("model!=a", "not.model=a"),
        ("model%21=a", "model!=a"),
        ("status=success", "status=OK"),
        ("min_cost=0.50", "min_cost=0.5"),
        ("from=1763892000", "from=1763892000000"),
        ("&&model=a&", "model=a"),
        ("model=a&limit=50&view=spans&sort_by=ts&sort_order=desc&total=none", "model=a"),
    ],
)
def test_spellings_of_one_question(one: str, other: str) -> None:
    """The same question in other words has the same cache key."""
    if "from" in one:
        one, other = f"{one}&to=1763899000", f"{other}&to=1763899000"
    assert read(one).document() == read(other).document()


def test_text_is_kept_byte_for_byte() -> None:
    """Right-to-left marks, combining characters and emoji are data."""
    for text in ("\u202eabc", "e\u0301", "\u00e9", "\U0001f600", "\ufeffx", "a\u0300" * 300):
        document: Any = read(f"model={''.join(f'%{byte:02X}' for byte in text.encode())}").document()
        assert document["filter"]["value"] == [text]


def test_every_list_parameter_is_described() -> None:
    params = RequestParams.parse(b"")
    request_from_params(params)
    assert LIST_PARAMETERS.keys() <= params.asked
