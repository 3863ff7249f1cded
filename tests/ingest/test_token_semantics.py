"""Tokens that match the bill: the golden cases of docs/explanation/token-semantics.md, in both encodings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ingest.mapping.token_semantics import TokenCounts, normalise_tokens
from tests.ingest.spans_in_both_encodings import map_one, usd

CLAUDE = {"gen_ai.response.model": "claude-sonnet-4-5"}


@pytest.mark.parametrize(
    ("values", "expected", "rule"),
    [
        pytest.param(
            {
                "gen_ai.system": "anthropic", **CLAUDE, "gen_ai.usage.input_tokens": 5,
                "gen_ai.usage.cache_read_input_tokens": 128_955, "gen_ai.usage.cache_creation_input_tokens": 1_253,
                "gen_ai.usage.output_tokens": 100,
            },
            (130_213, 100, 130_313), 2, id="anthropic-exclusive-input-langfuse-12306",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "openrouter", "gen_ai.response.model": "openai/gpt-4o",
                "gen_ai.usage.input_tokens": 17_903, "gen_ai.usage.input_cached_tokens": 17_817,
                "gen_ai.usage.output_tokens": 10,
            },
            (17_903, 10, 17_913), 3, id="openrouter-inclusive-langfuse-10592",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "gcp.gemini", "gen_ai.response.model": "gemini-2.5-flash",
                "gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.details.text_prompt_tokens": 1_000,
                "gen_ai.usage.text.input_tokens": 1_000, "gen_ai.usage.output_tokens": 50,
            },
            (1_000, 50, 1_050), 1, id="gemini-details-are-never-added-langfuse-16489",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "anthropic", **CLAUDE, "gen_ai.usage.input_tokens": 1_205,
                "gen_ai.usage.cache_read.input_tokens": 1_000, "gen_ai.usage.cache_write.input_tokens": 200,
                "gen_ai.usage.output_tokens": 40,
            },
            (1_205, 40, 1_245), 1, id="dotted-names-are-inclusive-for-anthropic-too",
        ),
        pytest.param(
            {
                "openinference.span.kind": "LLM", "llm.provider": "anthropic", "llm.token_count.prompt": 1_205,
                "llm.token_count.prompt_details.cache_read": 1_000, "llm.token_count.completion": 40,
            },
            (1_205, 40, 1_245), 1, id="openinference-is-inclusive",
        ),
        pytest.param(
            {
                "gen_ai.system": "aws.bedrock", "gen_ai.response.model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read_input_tokens": 2,
                "gen_ai.usage.output_tokens": 1,
            },
            (7, 1, 8), 2, id="bedrock-anthropic-is-exclusive-even-when-the-cache-is-smaller",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "something-new", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cache_read_tokens": 500, "gen_ai.usage.output_tokens": 1,
            },
            (510, 1, 511), 3, id="cache-larger-than-input-must-be-exclusive",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "anthropic", **CLAUDE, "gen_ai.usage.input_tokens": 10,
                "gen_ai.usage.cache_read_input_tokens": 500, "gen_ai.token.semantics": "inclusive",
                "gen_ai.usage.output_tokens": 1,
            },
            (10, 1, 11), 1, id="a-sender-that-says-inclusive-is-believed",
        ),
        pytest.param(
            {
                "langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4o",
                "langfuse.observation.usage_details":
                    '{"input": 20, "input_cached_tokens": 15, "output": 6, "output_reasoning_tokens": 4, "total": 45}',
            },
            (35, 10, 45), 3, id="langfuse-reports-parts-beside-each-other-as-its-total-tells",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "gcp.gemini", "gen_ai.response.model": "gemini-2.5-pro",
                "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.reasoning_tokens": 30, "gen_ai.usage.total_tokens": 180,
            },
            (100, 80, 180), 1, id="gemini-thoughts-beside-the-answer-as-the-total-tells",
        ),
        pytest.param(
            {
                "openinference.span.kind": "LLM", "llm.provider": "anthropic", "llm.token_count.prompt": 5,
                "llm.token_count.prompt_details.cache_read": 1_000, "llm.token_count.completion": 40,
            },
            (1_005, 40, 1_045), 3, id="inclusive-cannot-be-when-the-cache-is-larger",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "cohere", "gen_ai.request.model": "command-r",
                "gen_ai.usage.input_tokens": 40, "gen_ai.usage.output_tokens": 9,
                "cohere.tokens.input_tokens": 112,
            },
            (40, 9, 49), 1, id="cohere-billed-counts-not-consumed-ones",
        ),
    ],
)  # fmt: skip
def test_golden_case(values: dict[str, Any], expected: tuple[int, int, int], rule: int) -> None:
    record = map_one(values)
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == expected
    assert record.usage_rule == rule


def test_openrouter_pays_full_price_for_86_tokens_only() -> None:
    record = map_one(
        {
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 17_903,
            "gen_ai.usage.input_cached_tokens": 17_817,
            "gen_ai.usage.output_tokens": 0,
        }
    )
    assert record.prompt_cost_usd == usd("0.02248625")  # 86 x 2.5 + 17,817 x 1.25 dollars a million
    assert record.cache_savings_usd == usd("0.02227125")


def test_changed_count_stays_readable_as_it_was_sent() -> None:
    record = map_one(
        {
            "gen_ai.system": "anthropic",
            **CLAUDE,
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.cache_read_input_tokens": 9,
        }
    )
    assert record.prompt_tokens == 14
    assert record.attributes["gen_ai.usage.input_tokens"] == 5


def test_usage_that_only_an_agent_reports_is_priced_and_counted() -> None:
    record = map_one({"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 900, "model": "gpt-4o"})
    assert (record.operation_type, record.is_generation, record.prompt_tokens) == ("agent", True, 900)
    assert record.total_cost_usd == usd("0.00225")


def test_fetch_response_repeats_usage_and_is_ignored() -> None:
    record = map_one(
        {"gen_ai.operation.name": "fetch_response", "gen_ai.response.model": "gpt-4o", "gen_ai.usage.input_tokens": 900}
    )
    assert (record.is_generation, record.prompt_tokens, record.total_cost_usd) == (False, None, None)
    assert record.attributes["gen_ai.usage.input_tokens"] == 900


def test_cache_writes_split_by_lifetime_are_summed_and_priced_apart() -> None:
    values = {
        "gen_ai.provider.name": "anthropic",
        **CLAUDE,
        "gen_ai.usage.input_tokens": 1_000_000,
        "gen_ai.usage.output_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens.ephemeral_5m": 100_000,
        "gen_ai.usage.cache_creation.input_tokens.ephemeral_1h": 50_000,
    }
    record = map_one(values)
    assert record.cache_write_tokens == 150_000
    assert record.attributes["gen_ai.usage.cache_creation.input_tokens.ephemeral_1h"] == 50_000
    assert record.prompt_tokens == 1_000_000


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}, 7),
        ({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4, "gen_ai.usage.total_tokens": 5}, 7),
        ({"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4, "gen_ai.usage.total_tokens": 12}, 12),
        ({"gen_ai.usage.input_tokens": 3}, 3),
        ({}, None),
    ],
)
def test_total_is_at_least_the_sum_of_its_parts(values: dict[str, int], total: int | None) -> None:
    assert map_one(dict(values)).total_tokens == total


def test_reasoning_beside_the_output_is_added_to_it() -> None:
    record = map_one({"gen_ai.usage.output_tokens": 10, "gen_ai.usage.reasoning_tokens": 90, "model": "m"})
    assert (record.completion_tokens, record.reasoning_tokens) == (100, 90)


_count = st.none() | st.integers(0, 10**12)


@given(
    counts=st.tuples(_count, _count, _count, _count, _count, _count),
    dialect=st.sampled_from(["genai_a", "genai_b", "genai_c", "openinference", "openllmetry", "unknown"]),
    provider=st.sampled_from([None, "anthropic", "openai", "aws"]),
    semantics=st.sampled_from([None, "inclusive", "exclusive"]),
    read_key=st.sampled_from([None, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"]),
)
def test_normalised_counts_never_shrink_and_the_total_covers_them(
    counts: tuple[int | None, ...], dialect: str, provider: str | None, semantics: str | None, read_key: str | None
) -> None:
    before = TokenCounts(*counts)
    after = TokenCounts(*counts)
    rule = normalise_tokens(
        after, dialect=dialect, provider=provider, model="claude", cache_keys=(read_key, None), semantics=semantics
    )
    assert (rule is None) == (before.prompt is None and before.completion is None and before.total is None)
    assert (after.prompt or 0) >= (before.prompt or 0)
    assert (after.completion or 0) >= (before.completion or 0)
    if rule == 1:
        assert before.prompt in (None, after.prompt)
    if after.prompt is not None or after.completion is not None:
        assert after.total is not None
        assert after.total >= (after.prompt or 0) + (after.completion or 0)
