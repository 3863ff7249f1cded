"""Every row of every alias table fills its column (issue 5: "alias tables are data files with a test per row")."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from server.ingest.dialects.attribute_table import (
    alias_slots,
    attribute_table,
    detection_rules,
    dialect_tables,
    keys_of,
    read_table,
)
from server.ingest.dialects.canonical_names import (
    GENERATION_OPERATIONS,
    KNOWN_PROVIDERS,
    OPERATION_TYPES,
    canonical_operation,
    canonical_provider,
)
from server.ingest.mapping.span_usage import DETAIL_SLOTS
from tests.ingest.spans_in_both_encodings import NOW_NS, event, map_one

# Slot of the tables: what is placed there, which column must say it, what it must say.
EXPECTATIONS: dict[str, tuple[Any, str, Any]] = {
    "provider": ("cohere", "provider", "cohere"),
    "response_model": ("model-x", "model", "model-x"),
    "model": ("model-x", "model", "model-x"),
    "request_model": ("model-x", "request_model", "model-x"),
    "operation": ("embedding", "operation_type", "embedding"),
    "system_instructions": ('[{"type":"text","content":"Be brief"}]', "input_text", "system: Be brief"),
    "input": ("a question", "input_text", "a question"),
    "output": ("an answer", "output_text", "an answer"),
    "output_tool_calls": ('[{"toolCallId":"1","toolName":"f","args":{}}]', "output_text", "[tool_call f({})]"),
    "input_ref": ("s3://talks/1", "input_text", "[s3://talks/1]"),
    "output_ref": ("s3://talks/1", "output_text", "[s3://talks/1]"),
    "finish_reason": ("length", "finish_reason", "length"),
    "prompt_tokens": (17, "prompt_tokens", 17),
    "completion_tokens": (17, "completion_tokens", 17),
    "total_tokens": (17, "total_tokens", 17),
    "cached_tokens": (17, "cached_tokens", 17),
    "cache_write_tokens": (17, "cache_write_tokens", 17),
    "cache_write_5m_tokens": (17, "cache_write_tokens", 17),
    "cache_write_1h_tokens": (17, "cache_write_tokens", 17),
    "reasoning_tokens": (17, "reasoning_tokens", 17),
    "prompt_cost_usd": (0.25, "prompt_cost_usd", Decimal("0.25")),
    "completion_cost_usd": (0.25, "completion_cost_usd", Decimal("0.25")),
    "total_cost_usd": (0.25, "total_cost_usd", Decimal("0.25")),
    "ttft_seconds": (0.5, "ttft_ms", 500.0),
    "ttft_ms": (500, "ttft_ms", 500.0),
    "first_token_time": ("2026-11-01T12:00:00.5Z", "ttft_ms", 500.0),
    "error_type": ("timeout", "error_type", "timeout"),
    "error": ("it broke", "error_message", "it broke"),
    "error_level": ("ERROR", "status_code", "ERROR"),
    "user_id": ("u-1", "user_id", "u-1"),
    "session_id": ("s-1", "session_id", "s-1"),
    "conversation_id": ("s-1", "session_id", "s-1"),
    "service_name": ("shop", "service_name", "shop"),
    "service_version": ("1.2", "service_version", "1.2"),
    "environment": ("staging", "environment", "staging"),
    "agent_name": ("planner", "agent_name", "planner"),
    "tool_name": ("search", "tool_name", "search"),
    "prompt_name": ("greeting", "prompt_name", "greeting"),
    "prompt_version": ("3", "prompt_version", "3"),
    "tags": ('["b", "a"]', "tags", ["b", "a"]),
    **{slot: (17, "usage_details", {name: 17}) for slot, name in DETAIL_SLOTS.items()},
}

# Slots that need something beside the attribute to show in a column.
SPECIAL_SLOTS = {
    "cost_currency",
    "entity_name",
    "prompt_tokens_raw",
    "response_id",
    "speed",
    "succeeded",
    "token_semantics",
    "service_tier",
    "duration_ms",
    "span_name",
    "error_message",
}

ROWS = sorted(alias_slots().items())


@pytest.mark.parametrize(("key", "slot"), [row for row in ROWS if row[1] not in SPECIAL_SLOTS])
def test_alias_fills_its_column(key: str, slot: str) -> None:
    value, column, expected = EXPECTATIONS[slot]
    beside: dict[str, Any] = {"gen_ai.request.model": "model-y"} if key in keys_of("structural") else {}
    if slot == "tags" and key in keys_of("comma_separated"):
        value = "b, a"
    assert getattr(map_one({key: value, **beside}), column) == expected


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "error_message"])
def test_alias_fills_the_error_message_of_a_failed_span(key: str) -> None:
    assert map_one({key: "it broke"}, status={"code": 2}).error_message == "it broke"


@pytest.mark.parametrize("operation", ["tool", "agent"])
@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "entity_name"])
def test_alias_of_whatever_a_span_is_about_names_its_agent_or_tool(key: str, operation: str) -> None:
    record = map_one({key: "finder", "traceloop.span.kind": operation})
    assert getattr(record, f"{operation}_name") == "finder"


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "response_id"])
def test_alias_of_the_response_id_is_kept_under_one_key(key: str) -> None:
    assert map_one({key: "resp-1"}).attributes["gen_ai.response.id"] == "resp-1"


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "succeeded"])
def test_alias_of_success_tells_of_a_failure(key: str) -> None:
    assert [map_one({key: value}).status_code for value in (True, False, "false")] == ["OK", "ERROR", "ERROR"]


@pytest.mark.parametrize(
    ("key", "pattern", "operation"),
    [
        (key, pattern, operation)
        for table in dialect_tables()
        for key, values in table.get("values", {}).items()
        for pattern, operation in values.items()
    ],
)
def test_value_that_only_one_key_has_means_its_operation(key: str, pattern: str, operation: str) -> None:
    beside: dict[str, Any] = {"gen_ai.request.model": "model-y"} if key in keys_of("structural") else {}
    assert map_one({key: pattern.replace("*", "Open").upper(), **beside}).operation_type == operation


@pytest.mark.parametrize(
    ("key", "member", "slot"),
    [
        (key, member, slot)
        for table in dialect_tables()
        for key, members in table.get("inside", {}).items()
        for member, slot in members.items()
    ],
)
def test_member_of_an_object_fills_a_column_that_nothing_else_fills(key: str, member: str, slot: str) -> None:
    value, column, expected = EXPECTATIONS[slot]
    assert getattr(map_one({key: json.dumps({member: value})}), column) == expected


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "service_tier"])
def test_alias_of_the_service_tier_changes_the_price(key: str) -> None:
    call = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "o3", "gen_ai.usage.input_tokens": 1_000_000}
    standard, flex = map_one(call), map_one({**call, key: "flex"})
    assert standard.total_cost_usd == 2
    assert flex.total_cost_usd == 1
    assert flex.attributes[key] == "flex"


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "speed"])
def test_alias_of_the_speed_changes_the_price(key: str) -> None:
    call = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": "claude-opus-5",
        "gen_ai.usage.input_tokens": 9,
    }
    assert (map_one({**call, key: "fast"}).total_cost_usd or 0) == 2 * (map_one(call).total_cost_usd or 0) > 0


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "cost_currency"])
def test_alias_of_the_currency_keeps_euros_from_being_taken_for_dollars(key: str) -> None:
    record = map_one({"gen_ai.usage.cost": 5.0, key: "EUR"})
    assert record.total_cost_usd is None
    assert record.usage_details == {"cost_currency": "EUR", "cost_amount": 5.0}


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "span_name"])
def test_alias_names_a_span_that_has_no_name(key: str) -> None:
    assert map_one({key: "chat_completion"}, name="").span_name == "chat_completion"


@pytest.mark.parametrize("key", [key for key, slot in ROWS if slot == "duration_ms"])
def test_reported_duration_never_replaces_the_times_of_the_span(key: str) -> None:
    record = map_one({key: 5})
    assert record.duration_ms == 2000
    assert record.attributes[key] == 5


def test_no_attribute_stands_in_two_tables() -> None:
    keys = [key for table in dialect_tables() for aliases in table["columns"].values() for key in aliases]
    assert len(keys) == len(set(keys))


def test_every_slot_has_an_expectation() -> None:
    assert set(alias_slots().values()) == set(EXPECTATIONS) | SPECIAL_SLOTS


# The mapping table of the reference, written down a second time by hand: what must be read whatever the data files say.
REQUIRED = {
    "provider": """
        gen_ai.provider.name gen_ai.system llm.provider llm.system ai.model.provider aisdk.model.provider
        mlflow.llm.provider
    """,
    "response_model": "gen_ai.response.model llm.response.model_name ai.response.model llm.response.model",
    "model": """
        llm.model_name embedding.model_name langfuse.observation.model.name mlflow.llm.model model llm.model
    """,
    "request_model": "gen_ai.request.model llm.request.model_name ai.model.id llm.request.model",
    "operation": """
        gen_ai.operation.name openinference.span.kind llm.request.type traceloop.span.kind
        langfuse.observation.type ai.operationId mlflow.spanType
    """,
    "input": """
        gen_ai.input.messages gen_ai.tool.call.arguments gen_ai.retrieval.query.text input.value
        traceloop.entity.input gen_ai.prompt langfuse.observation.input langfuse.trace.input
        ai.prompt.messages ai.prompt ai.toolCall.args mlflow.spanInputs pydantic_ai.all_messages
        gcp.vertex.agent.llm_request gcp.vertex.agent.tool_call_args input prompt llm.prompt
        llm.request.payload llm.request.prompt llm.request.first_message
    """,
    "output": """
        gen_ai.output.messages gen_ai.tool.call.result output.value traceloop.entity.output gen_ai.completion
        langfuse.observation.output ai.response.text ai.response.object ai.toolCall.result mlflow.spanOutputs
        gcp.vertex.agent.llm_response gcp.vertex.agent.tool_response output llm.completion
        llm.response.payload llm.response.content
    """,
    "prompt_tokens": """
        ai.usage.tokens
        gen_ai.usage.input_tokens gen_ai.usage.prompt_tokens llm.token_count.prompt llm.usage.prompt_tokens
        ai.usage.inputTokens ai.usage.promptTokens mlflow.chat.tokenUsage.input_tokens
        langfuse.observation.usage_details.input
    """,
    "completion_tokens": """
        gen_ai.usage.output_tokens gen_ai.usage.completion_tokens llm.token_count.completion
        llm.usage.completion_tokens ai.usage.outputTokens ai.usage.completionTokens
    """,
    "total_tokens": """
        gen_ai.usage.total_tokens llm.token_count.total llm.usage.total_tokens ai.usage.totalTokens
        tokens.total
    """,
    "cached_tokens": """
        gen_ai.usage.cache_read.input_tokens llm.token_count.prompt_details.cache_read
        gen_ai.usage.cache_read_input_tokens gen_ai.usage.cache_read_tokens
        gen_ai.usage.details.cache_read_tokens gen_ai.usage.details.cache_read_input_tokens
        gen_ai.usage.input_cached_tokens gen_ai.usage.prompt_tokens_details.cached_tokens
        ai.usage.cachedInputTokens
    """,
    "cache_write_tokens": """
        gen_ai.usage.cache_write.input_tokens gen_ai.usage.cache_creation.input_tokens
        llm.token_count.prompt_details.cache_write gen_ai.usage.cache_creation_input_tokens
        gen_ai.usage.cache_write_input_tokens gen_ai.usage.cache_write_tokens
        gen_ai.usage.details.cache_write_tokens gen_ai.usage.details.cache_creation_input_tokens
    """,
    "cache_write_5m_tokens": "gen_ai.usage.cache_creation.input_tokens.ephemeral_5m",
    "cache_write_1h_tokens": "gen_ai.usage.cache_creation.input_tokens.ephemeral_1h",
    "reasoning_tokens": """
        gen_ai.usage.reasoning.output_tokens llm.token_count.completion_details.reasoning
        gen_ai.usage.reasoning_tokens llm.usage.reasoning_tokens
        gen_ai.usage.completion_tokens_details.reasoning_tokens ai.usage.reasoningTokens
    """,
    "prompt_cost_usd": """
        llm.cost.prompt gen_ai.usage.input_cost langfuse.observation.cost_details.input
        mlflow.llm.cost.input_cost llm.cost.prompt_usd
    """,
    "completion_cost_usd": """
        llm.cost.completion gen_ai.usage.output_cost langfuse.observation.cost_details.output
        mlflow.llm.cost.output_cost llm.cost.completion_usd
    """,
    "total_cost_usd": """
        llm.cost.total gen_ai.usage.cost gen_ai.usage.total_cost langfuse.observation.cost_details.total
        mlflow.llm.cost.total_cost llm.cost.total_usd cost.usd
    """,
    "ttft_seconds": "gen_ai.response.time_to_first_chunk gen_ai.server.time_to_first_token gen_ai.server.ttft",
    "ttft_ms": """
        ai.response.msToFirstChunk ai.stream.msToFirstChunk llm.ttft_ms llm.latency.ttft_ms
        llm.metrics.ttft_ms
    """,
    "first_token_time": "langfuse.observation.completion_start_time",
    "user_id": """
        user.id enduser.id traceloop.association.properties.user_id gen_ai.user llm.user langfuse.user.id
        gen_ai.request.user lmnr.association.properties.user_id ai.telemetry.metadata.userId agento11y.user.id
        mlflow.trace.user llm.user.id
    """,
    "session_id": """
        session.id traceloop.association.properties.session_id traceloop.association.properties.thread_id
        traceloop.association.properties.chat_id langfuse.session.id ai.telemetry.metadata.sessionId
        mlflow.trace.session lmnr.association.properties.session_id llm.session.id
    """,
    "conversation_id": "gen_ai.conversation.id",
    "environment": """
        deployment.environment.name deployment.environment langfuse.environment gen_ai.environment
        llm.environment environment
    """,
    "tags": """
        tag.tags langfuse.trace.tags ai.telemetry.metadata.tags agento11y.generation.tags llm.tags
    """,
}  # fmt: skip


@pytest.mark.parametrize(("slot", "key"), [(slot, key) for slot, keys in REQUIRED.items() for key in keys.split()])
def test_reference_mapping_is_in_the_tables(slot: str, key: str) -> None:
    assert attribute_table()[key].slot == slot


@pytest.mark.parametrize("slot", sorted(REQUIRED))
def test_precedence_within_a_column_is_that_of_the_reference(slot: str) -> None:
    """Within one dialect the reference has them in order, from left to right."""
    ranks = [attribute_table()[key].rank for key in REQUIRED[slot].split() if key.startswith("gen_ai.")]
    by_dialect: dict[int, list[int]] = {}
    for rank in ranks:
        by_dialect.setdefault(rank // 1000, []).append(rank)
    assert all(group == sorted(group) for group in by_dialect.values())


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        (alias, name)
        for name, aliases in read_table("providers.json")["providers"].items()
        for alias in [name, *aliases, name.upper()]
    ],
)
def test_provider_alias_has_its_canonical_name(alias: str, name: str) -> None:
    assert canonical_provider(alias) == name


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("azure.ai.openai", "azure"), ("az.ai.inference", "azure"), ("aws.bedrock", "aws"), ("gcp.gemini", "google"),
        ("gcp.gen_ai", "google"), ("gcp.vertex_ai", "google-vertex"), ("mistral_ai", "mistral"), ("xai", "x-ai"),
        ("moonshot_ai", "moonshotai"), ("together_ai", "together"), ("hugging_face", "huggingface"),
        ("ibm.watsonx.ai", "watsonx"), ("openai.chat", "openai"), ("openai.responses", "openai"),
        ("google.vertex.chat", "google-vertex"), ("google.generative-ai", "google"),
        ("My.Own.Gateway", "my.own.gateway"),
    ],
)  # fmt: skip
def test_providers_of_the_reference(raw: str, canonical: str) -> None:
    assert canonical_provider(raw) == canonical


@pytest.mark.parametrize(
    ("value", "name"),
    [(value, name) for name, values in read_table("operations.json")["operations"].items() for value in values],
)
def test_operation_value_has_its_canonical_name(value: str, name: str) -> None:
    assert canonical_operation(value.replace("*", "_store")) == name
    assert canonical_operation(value.replace("*", "").upper()) == name


@pytest.mark.parametrize(
    "rule", detection_rules(), ids=lambda rule: f"{rule.dialect}-{sorted(rule.keys) or rule.prefixes}"
)
def test_detection_rule_names_its_dialect(rule: Any) -> None:
    keys = sorted(rule.keys) + [f"{prefix}anything" for prefix in rule.prefixes]
    for key in keys:
        first = next(
            other for other in detection_rules() if key in other.keys or key.startswith(other.prefixes or ("\0",))
        )
        assert map_one({key: "x"}).dialect == first.dialect
    for name in rule.names:
        assert map_one({}, name=name).dialect == rule.dialect
    for scope in rule.scopes:
        assert map_one({}, scope=scope).dialect == rule.dialect


@pytest.mark.parametrize(
    ("values", "dialect"),
    [
        ({"gen_ai.provider.name": "openai"}, "genai_b"),
        ({"gen_ai.provider.name": "anthropic", "gen_ai.usage.cache_write.input_tokens": 1}, "genai_c"),
        ({"gen_ai.system": "openai", "gen_ai.operation.name": "chat"}, "genai_a"),
        ({"gen_ai.operation.name": "chat"}, "genai_b"),
        ({"openinference.span.kind": "LLM", "gen_ai.system": "openai"}, "openinference"),
        ({"gen_ai.system": "OpenAI", "gen_ai.prompt.0.role": "user"}, "openllmetry"),
        ({"gen_ai.system": "openai.chat", "ai.operationId": "ai.generateText.doGenerate"}, "vercel_ai"),
        ({"llm.model": "gpt-4"}, "observatory_sdk"),
        ({"http.request.method": "GET"}, "unknown"),
    ],
)
def test_dialects_are_told_apart(values: dict[str, Any], dialect: str) -> None:
    assert map_one(values).dialect == dialect


def test_canonical_tables_are_consistent() -> None:
    assert GENERATION_OPERATIONS <= OPERATION_TYPES
    assert {"openai", "anthropic", "azure", "google", "aws"} <= KNOWN_PROVIDERS


@pytest.mark.parametrize("name", sorted(read_table("events.json")["first_token"]))
def test_first_token_event_gives_the_time_to_first_token(name: str) -> None:
    record = map_one({}, events=[event(name, NOW_NS + 250_000_000), event(name, NOW_NS + 900_000_000)])
    assert record.ttft_ms == 250.0


@pytest.mark.parametrize("name", sorted(read_table("events.json")["messages"]))
def test_message_event_of_generation_a_becomes_a_message(name: str) -> None:
    rule = read_table("events.json")["messages"][name]
    record = map_one({"gen_ai.system": "openai"}, events=[event(name, content="some words")])
    messages = getattr(record, f"{rule['slot']}_messages")
    assert messages[0]["role"] == rule["role"]
    assert "some words" in getattr(record, f"{rule['slot']}_text")
    assert record.events == []


@pytest.mark.parametrize("name", sorted(read_table("events.json")["merged"]))
def test_attributes_of_a_details_event_fill_what_the_span_lacks(name: str) -> None:
    record = map_one({"user.id": "of the span"}, events=[event(name, gen_ai__prompt="asked", user__id="of the event")])
    assert (record.input_text, record.user_id) == ("asked", "of the span")


@pytest.mark.parametrize("name", sorted(read_table("events.json")["exception"]))
def test_exception_event_makes_an_error(name: str) -> None:
    record = map_one({}, events=[event(name, exception__type="ValueError", exception__message="no such thing")])
    assert (record.status_code, record.error_type, record.error_message) == ("ERROR", "ValueError", "no such thing")
    assert record.events[0]["name"] == name
