"""Tokens that match the bill: the golden cases of docs/explanation/token-semantics.md, in both encodings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ingest.mapping.token_semantics import CountEvidence, TokenCounts, normalise_tokens
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
            (35, 10, 45), 5, id="langfuse-reports-parts-beside-each-other-as-its-total-tells",
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


CLAUDE_CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", **CLAUDE}
BEDROCK = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "aws.bedrock", **CLAUDE}
DOTTED = {
    "gen_ai.usage.input_tokens": 700, "gen_ai.usage.output_tokens": 30, "gen_ai.usage.cache_read.input_tokens": 400,
    "gen_ai.usage.cache_creation.input_tokens": 60,
}  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "values", "expected"),
    [
        pytest.param("opentelemetry.instrumentation.bedrock", {**BEDROCK, **DOTTED}, (1160, 4), id="bedrock-by-scope"),
        pytest.param(
            "@traceloop/instrumentation-anthropic",
            {**CLAUDE_CALL, **DOTTED, "gen_ai.usage.total_tokens": 730},
            (1160, 4),
            id="a-known-scope-beats-a-total-that-fits-the-wrong-reading",
        ),
        pytest.param("lmnr.tracer", {**CLAUDE_CALL, **DOTTED}, (700, 4), id="laminar-by-scope"),
        pytest.param("any", {**CLAUDE_CALL, **DOTTED}, (700, 1), id="no-known-scope"),
    ],
)
def test_the_scope_decides_first(scope: str, values: dict[str, Any], expected: tuple[int, int]) -> None:
    record = map_one(values, scope=scope)
    assert (record.prompt_tokens, record.usage_rule) == expected


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        pytest.param(830, (800, 30, 5), id="all inside"),
        pytest.param(1030, (1000, 30, 5), id="the cache is beside the input"),
        pytest.param(1050, (1000, 50, 5), id="cache and reasoning are beside"),
        pytest.param(850, (800, 50, 5), id="the reasoning is beside the output"),
        pytest.param(999, (800, 30, 1), id="proves nothing"),
    ],
)
def test_the_total_decides_before_the_convention(total: int, expected: tuple[int, int, int]) -> None:
    record = map_one(
        {
            "openinference.span.kind": "LLM", "llm.model_name": "claude-sonnet-4-5", "llm.token_count.prompt": 800,
            "llm.token_count.prompt_details.cache_read": 200, "llm.token_count.completion": 30,
            "llm.token_count.completion_details.reasoning": 20, "llm.token_count.total": total,
        }
    )  # fmt: skip
    assert (record.prompt_tokens, record.completion_tokens, record.usage_rule) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ('{"input": 50, "input_cached": 20, "output": 8}', (70, 8, 20)),
        ('{"input": 50, "input_cache_read": 20, "output": 8, "output_reasoning": 5}', (70, 13, 20)),
        ('{"input": 50, "input_audio_tokens": 9, "output": 8}', (59, 8, None)),
        ('{"input": 70, "input_cached_tokens": 20, "output": 8, "total": 78}', (70, 8, 20)),
        ('{"input_tokens": 50, "cache_read_input_tokens": 20, "output_tokens": 8}', (70, 8, 20)),
        ('{"input_tokens": 70, "input_tokens_details": {"cached_tokens": 20}, "output_tokens": 8}', (70, 8, 20)),
        ('{"prompt_tokens": 70, "prompt_tokens_details": {"cached_tokens": 20}, "completion_tokens": 8}', (70, 8, 20)),
    ],
)
def test_langfuse_counts_in_buckets_or_as_the_vendor_does(usage: str, expected: tuple[int, int, int | None]) -> None:
    record = map_one({"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage})
    assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == expected
    assert record.total_tokens == expected[0] + expected[1]


def test_what_geminis_total_has_beyond_its_parts_is_thoughts() -> None:
    record = map_one(
        {
            "gen_ai.provider.name": "gcp.gemini", "gen_ai.request.model": "gemini-2.5-flash",
            "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "gen_ai.usage.total_tokens": 165,
        }
    )  # fmt: skip
    assert (record.completion_tokens, record.reasoning_tokens) == (65, 45)


def test_reasoning_that_an_instrumentation_added_twice_is_taken_back() -> None:
    values = {
        "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 70, "gen_ai.usage.reasoning.output_tokens": 20,
    }  # fmt: skip
    assert map_one(values, scope="gcp.vertex.agent").completion_tokens == 50
    assert map_one(values, scope="other").completion_tokens == 70
    assert map_one({**values, "gen_ai.provider.name": "gcp.gemini"}, scope="gcp.vertex.agent").completion_tokens == 70


def test_tokens_of_compaction_are_billed_beside_those_of_the_answer() -> None:
    record = map_one(
        {
            **CLAUDE_CALL, "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10,
            "anthropic.usage.compaction.input_tokens": 5_000, "anthropic.usage.compaction.output_tokens": 300,
        }
    )  # fmt: skip
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (5_100, 310, 5_410)
    assert record.usage_details == {"compaction_input": 5_000, "compaction_output": 300}


def test_the_input_of_a_vendors_answer_tells_what_the_ai_sdk_made_of_it() -> None:
    answer = '{"anthropic": {"usage": {"input_tokens": 40, "cache_read_input_tokens": 30}}}'
    values = {"ai.operationId": "ai.generateObject.doGenerate", "ai.response.providerMetadata": answer}
    assert map_one({**values, "ai.usage.promptTokens": 70}).prompt_tokens == 70
    assert map_one({**values, "ai.usage.promptTokens": 40}).prompt_tokens == 70


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
    counts: Any, dialect: str, provider: str | None, semantics: str | None, read_key: str | None
) -> None:
    before = TokenCounts(*counts)
    after = TokenCounts(*counts)
    sources = {} if read_key is None else {"cached_tokens": read_key}
    evidence = CountEvidence(dialect=dialect, provider=provider, model="claude", sources=sources, semantics=semantics)
    rule = normalise_tokens(after, evidence)
    assert (rule is None) == (before.prompt is None and before.completion is None and before.total is None)
    assert (after.prompt or 0) >= (before.prompt or 0)
    assert (after.completion or 0) >= (before.completion or 0)
    if rule == 1:
        assert before.prompt in (None, after.prompt)
    if after.prompt is not None or after.completion is not None:
        assert after.total is not None
        assert after.total >= (after.prompt or 0) + (after.completion or 0)
