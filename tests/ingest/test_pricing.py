"""Prices: of the span's own day, with its cache and tier, exact; overrides and reported costs before them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as CatalogUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from server.ingest.pricing.price_book import PriceBook, PriceOverride, Usage
from server.ingest.pricing.price_catalog import PriceCatalog, catalog_version
from server.ingest.pricing.project_prices import ProjectPrices
from tests.ingest.spans_in_both_encodings import map_document, map_one, request, span, usd

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BOOK = PriceBook()


def total(provider: str | None, model: str, at: datetime = NOW, tier: str | None = None) -> Decimal | None:
    quote = BOOK.quote(provider, model, at, Usage(1_000_000, 1_000_000), tier)
    return None if quote is None else quote.total_usd


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", "12.5"),
        ("openai", "GPT-4o-2024-08-06", "12.5"),
        ("azure", "gpt-4o", "12.5"),
        (None, "gpt-4o", "12.5"),
        (None, "openai/gpt-4o", "12.5"),
        ("litellm", "openai/gpt-4o", "12.5"),
        ("openai", "openai/gpt-4o", "12.5"),
        ("my-router", "openai/gpt-4o", "12.5"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "1.5"),
        ("anthropic", "claude-sonnet-4-5", None),
        ("google", "models/gemini-2.5-flash", None),
        ("google-vertex", "publishers/google/models/gemini-2.5-flash", None),
        ("aws", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", None),
    ],
)
def test_names_of_routers_clouds_and_fine_tunes_find_their_price(
    provider: str | None, model: str, expected: str | None
) -> None:
    price = total(provider, model)
    assert price is not None
    assert price > 0
    assert expected is None or price == Decimal(expected)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-99-imaginary"),
        ("my-own-server", "deepseek-r1"),
        ("ollama", "llama3"),
        (None, "mystery"),
        ("openai", "ft:gpt-4.1:acme::x"),
    ],
)
def test_unknown_model_has_no_price_rather_than_a_guess(provider: str | None, model: str) -> None:
    assert total(provider, model) is None


def test_price_is_that_of_the_day_of_the_span() -> None:
    assert total("openai", "o3", datetime(2025, 6, 9, 23, 59, tzinfo=UTC)) == 50
    assert total("openai", "o3", datetime(2025, 6, 10, tzinfo=UTC)) == 10


def test_service_tier_has_its_own_price_and_version() -> None:
    assert total("openai", "o3", tier="flex") == 5
    assert total("openai", "o3", tier="default") == total("openai", "o3", tier="nonsense") == total("openai", "o3")
    quote = BOOK.quote("openai", "o3", NOW, Usage(1, 1), "flex")
    assert quote is not None
    assert quote.version == f"genai-prices {catalog_version()} openai/o3 flex"


def test_long_context_is_priced_by_its_tier_as_a_whole() -> None:
    short = BOOK.quote("google", "gemini-2.5-pro", NOW, Usage(200_000, 0))
    long = BOOK.quote("google", "gemini-2.5-pro", NOW, Usage(200_001, 0))
    assert short is not None
    assert long is not None
    assert short.total_usd == usd("0.25")
    assert long.total_usd == usd("0.5000025")


def test_cache_is_priced_and_its_savings_told() -> None:
    quote = BOOK.quote("anthropic", "claude-sonnet-4-5", NOW, Usage(130_213, 0, 128_955, 1_253))
    assert quote is not None
    assert quote.prompt_usd == usd("0.04340025")  # 5 x 3 + 128,955 x 0.30 + 1,253 x 3.75 dollars a million
    assert quote.cache_savings_usd == usd("0.34723875")
    hour = BOOK.quote("anthropic", "claude-sonnet-4-5", NOW, Usage(1_000, 0, 0, 1_000, 1_000))
    assert hour is not None
    assert hour.prompt_usd == usd("0.006")
    assert hour.cache_savings_usd == usd("-0.003")


def test_parts_larger_than_the_input_are_clamped() -> None:
    quote = BOOK.quote("openai", "gpt-4o", NOW, Usage(100, 0, 500, 500))
    assert quote is not None
    assert quote.prompt_usd == usd("0.000125")


def test_fee_for_a_request_is_in_the_total_only() -> None:
    quote = BOOK.quote("perplexity", "sonar-pro", NOW, Usage(1_000, 1_000))
    assert quote is not None
    assert quote.total_usd > quote.prompt_usd + quote.completion_usd


_PRICED = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in ("openai", "anthropic", "google", "mistral", "x-ai", "deepseek", "groq", "aws", "azure")
    for model in provider.models
]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(_PRICED),
    day=st.datetimes(datetime(2024, 1, 1), datetime(2026, 11, 20), timezones=st.just(UTC)),
    prompt=st.integers(0, 600_000),
    completion=st.integers(0, 100_000),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    reasoning=st.integers(0, 100_000),
)
def test_rate_cards_agree_with_the_catalogue_s_own_arithmetic(
    name: tuple[str, str], day: datetime, prompt: int, completion: int, shares: tuple[float, float], reasoning: int
) -> None:
    provider, model = name
    read = int(prompt * shares[0])
    write = int((prompt - read) * shares[1])
    reasoning = min(reasoning, completion)
    quote = BOOK.quote(provider, model, day, Usage(prompt, completion, read, write, None, reasoning))
    if quote is None:
        return
    usage = CatalogUsage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_reasoning_tokens=reasoning,
    )
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:  # the package has no such name of this provider; ours comes from the model's maker
        return
    itemised = BOOK.quote(provider, model, day, Usage(prompt, completion, read, write, None, reasoning), itemised=True)
    assert itemised is not None
    assert itemised[:4] == quote[:4]
    own = info.calc_price(usage, found, genai_request_timestamp=day)
    assert quote.total_usd == own.total_price.quantize(Decimal("1e-10"))
    assert quote.prompt_usd == own.input_price.quantize(Decimal("1e-10"))


OVERRIDES = [
    PriceOverride(
        provider="azure.ai.openai",
        model="Our-Deployment",
        valid_from=datetime(2026, month, 1, tzinfo=UTC),
        input_usd_per_mtok=Decimal(month),
        output_usd_per_mtok=Decimal(10),
        cache_read_usd_per_mtok=Decimal("0.5") if month == 3 else None,
    )
    for month in (3, 1)
]


@pytest.mark.parametrize(("month", "expected"), [(2, "11"), (3, "13"), (11, "13")])
def test_override_holds_from_its_day_on_whatever_its_provider_is_called(month: int, expected: str) -> None:
    quote = PriceBook(OVERRIDES).quote(
        "azure", "our-deployment", datetime(2026, month, 1, tzinfo=UTC), Usage(10**6, 10**6)
    )
    assert quote is not None
    assert (quote.total_usd, quote.source) == (Decimal(expected), "override")
    assert quote.version.startswith("override 2026-0")


def test_before_the_first_override_the_catalogue_is_asked() -> None:
    book = PriceBook(OVERRIDES)
    assert book.quote("azure", "our-deployment", datetime(2025, 12, 31, tzinfo=UTC), Usage(1, 1)) is None


def test_override_without_a_cache_rate_charges_the_input_rate() -> None:
    at = datetime(2026, 2, 1, tzinfo=UTC)
    quote = PriceBook(OVERRIDES).quote("azure", "our-deployment", at, Usage(10**6, 0, 10**6))
    assert quote is not None
    assert (quote.prompt_usd, quote.cache_savings_usd) == (Decimal(1), Decimal(0))


CALL = {
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}


def test_row_is_computed_with_its_version() -> None:
    record = map_one(dict(CALL))
    assert (record.prompt_cost_usd, record.completion_cost_usd) == (usd("0.0025"), usd("0.001"))
    assert (record.total_cost_usd, record.cost_source) == (usd("0.0035"), "computed")
    assert record.price_version == f"genai-prices {catalog_version()} openai/gpt-4o"
    assert record.cache_savings_usd is None


def test_reported_total_wins_and_its_parts_stay_empty() -> None:
    record = map_one({**CALL, "gen_ai.usage.cost": 0.5})
    assert (record.total_cost_usd, record.cost_source, record.price_version) == (usd("0.5"), "reported", None)
    assert (record.prompt_cost_usd, record.completion_cost_usd) == (None, None)


def test_reported_parts_make_the_total() -> None:
    record = map_one({**CALL, "llm.cost.prompt": 0.25, "llm.cost.completion": "0.125"})
    assert (record.total_cost_usd, record.cost_source) == (usd("0.375"), "reported")


def test_span_that_cannot_count_is_not_priced() -> None:
    record = map_one({**CALL, "gen_ai.operation.name": "execute_tool"})
    assert (record.total_cost_usd, record.cost_source) == (None, "none")


def test_unpriced_models_are_counted() -> None:
    unknown = {**CALL, "gen_ai.response.model": "home-made"}
    silent = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "home-made"}
    calls: list[dict[str, Any]] = [unknown, unknown, silent, CALL]
    spans = [span(values, spanId=f"{number:016x}") for number, values in enumerate(calls, 1)]
    batch = map_document(request(*spans))
    assert batch.unpriced == {("openai", "home-made"): 2}


def test_a_quote_costs_microseconds_once_the_model_is_known() -> None:
    usage = Usage(1000, 100, 500)
    BOOK.quote("openai", "gpt-4o", NOW, usage)
    start = time.process_time()
    for _ in range(2000):
        BOOK.quote("openai", "gpt-4o", NOW, usage)
    # About 4 µs; the catalogue's own arithmetic takes 125 µs. A wide margin, since tests share their machine.
    assert time.process_time() - start < 2000 * 60e-6


def test_price_that_changes_by_the_hour_is_not_remembered_for_the_day() -> None:
    catalog = PriceCatalog()
    cards = {
        hour: catalog.card("deepseek", "deepseek-reasoner", datetime(2025, 6, 1, hour, 0, tzinfo=UTC))
        for hour in (12, 20)
    }
    assert all(cards.values())
    own = {
        hour: get_snapshot()
        .find_provider_model("deepseek-reasoner", None, "deepseek", None)[1]
        .get_prices(datetime(2025, 6, 1, hour, 0, tzinfo=UTC))
        for hour in (12, 20)
    }
    differs = own[12] != own[20]
    assert (cards[12] != cards[20]) == differs


@pytest.mark.parametrize(
    ("provider", "model", "label"),
    [
        (None, "openrouter/anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("openai", "openai/responses/gpt-5", "openai/gpt-5"),
        (None, "azure/eu/gpt-4o-mini", "azure/gpt-4o-mini"),
        ("portkey", "@openai-prod/gpt-4o", "openai/gpt-4o"),
        (None, "claude-4.5-sonnet", "anthropic/claude-sonnet-4-5"),
        ("anthropic", "claude-4.5-sonnet-thinking", "anthropic/claude-sonnet-4-5"),
        (None, "openai/gpt-4o:completions", "openai/gpt-4o"),
        ("cursor", "claude-4-sonnet", "anthropic/claude-sonnet-4"),
        ("litellm", "openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("crewai", "gpt-4o", "openai/gpt-4o"),
        ("my-gateway", "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("strands-agents", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "aws/regional.anthropic.claude-haiku-4-5"),
        ("anthropic", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws/global.anthropic.claude-sonnet-4-5"),
        (None, "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0", "aws/"),
        ("aws", "claude-haiku-4-5-20251001", "aws/regional.anthropic.claude-haiku-4-5"),
        (None, "ft:gpt-4o-mini-2024-07-18:house::1", "openai/ft:gpt-4o-mini"),
        ("google", "models/gemini-2.5-flash", "google/gemini-2.5-flash"),
        (
            "google-vertex",
            "projects/p/locations/l/publishers/google/models/gemini-2.5-flash",
            "google/gemini-2.5-flash",
        ),
        ("google-vertex", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
        ("fireworks", "accounts/fireworks/models/gpt-oss-120b", "fireworks/gpt-oss-120b"),
        ("litellm", "accounts/fireworks/models/gpt-oss-120b", "fireworks/gpt-oss-120b"),
        (None, "openai:gpt-4o", "openai/gpt-4o"),
        (None, "google_genai:gemini-2.5-flash", "google/gemini-2.5-flash"),
        (None, "bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws/"),
        (None, "databricks/databricks-claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("litellm", "openai/responses/gpt-4o", "openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o:online", "openrouter/openai/gpt-4o"),
        (None, "text-embedding-3-large", "openai/text-embedding-3-large"),
        ("vllm", "gpt-4o", "openai/gpt-4o"),
    ],
)
def test_a_model_is_found_whatever_stands_round_its_name(provider: str | None, model: str, label: str) -> None:
    quote = PriceBook().quote(provider, model, NOW, Usage(1_000, 10))
    assert quote is not None
    assert f" {label}" in quote.version


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (None, "my-gpt-4o-clone"), ("openai", "gpt-4o-mini-super"), (None, "claude-opus-9"), ("azure", "prod-gpt-4o"),
        ("openrouter", "openrouter/house/unknown-9"), ("vllm", "deepseek-r1"), ("ollama", "llama3"),
        ("aws", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123"),
    ],
)  # fmt: skip
def test_a_name_that_only_resembles_a_model_has_no_price(provider: str | None, model: str) -> None:
    assert PriceBook().quote(provider, model, NOW, Usage(1_000, 10)) is None


def test_other_media_and_searches_have_rates_of_their_own() -> None:
    spoken = Usage(1_000, 500, 200, details={"input_audio": 900, "cached_audio": 200, "output_audio": 500})
    quote = PriceBook().quote("openai", "gpt-realtime", NOW, spoken, itemised=True)
    assert quote is not None
    assert {(line.name, line.quantity) for line in quote.lines} == {
        ("input audio", 700), ("cache read audio", 200), ("input", 100), ("output audio", 500)
    }  # fmt: skip
    assert quote.total_usd == sum(line.usd for line in quote.lines)
    searched = PriceBook().quote("anthropic", "claude-sonnet-4-5", NOW, Usage(0, 0, details={"web_searches": 5}))
    assert searched is not None
    assert searched.total_usd == Decimal("0.05")


def test_a_free_model_costs_nothing_and_is_no_unknown_one() -> None:
    quote = PriceBook().quote("openrouter", "deepseek/deepseek-r1:free", NOW, Usage(1_000, 10))
    assert quote is not None
    assert quote.total_usd == 0


def test_a_project_says_what_is_behind_a_deployment_and_what_a_currency_is_worth() -> None:
    project = ProjectPrices(deployments={"prod-chat": ("azure", "gpt-4o")}, currencies={"EUR": Decimal("1.10")})
    book = PriceBook(project=project)
    quote = book.quote("azure", "Prod-Chat", NOW, Usage(1_000_000, 0))
    assert quote is not None
    assert quote.total_usd == Decimal("2.5")
    assert (book.dollars(Decimal(5), "eur"), book.dollars(Decimal(5), "GBP")) == (Decimal("5.50"), None)
    values = {"gen_ai.usage.cost.amount": 5.0, "gen_ai.usage.cost.currency": "EUR", "gen_ai.operation.name": "chat"}
    record = map_one(values, pricing=book)
    assert (record.total_cost_usd, record.cost_source) == (Decimal("5.5"), "reported")
    assert record.price_version == "EUR at 1.10 USD"


def test_buckets_of_cost_are_added_up_where_no_total_is_reported() -> None:
    buckets = '{"input": 0.25, "input_cached_tokens": 0.5, "output": 1, "web_search": 2}'
    values = {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": buckets}
    record = map_one(values)
    assert (record.prompt_cost_usd, record.completion_cost_usd, record.total_cost_usd) == (
        Decimal("0.75"), Decimal(1), Decimal("3.75"),
    )  # fmt: skip
    assert record.cost_source == "reported"


def test_a_failed_call_without_usage_has_no_reported_cost_of_zero() -> None:
    values = {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": '{"total": 0}'}
    assert map_one(values).cost_source == "reported"
    assert map_one(values, status={"code": 2}).cost_source == "none"
