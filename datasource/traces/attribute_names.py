"""TraceQL's names for our fields.

Intrinsics and attributes with a field of their own map to it, so that a search uses its index; every other attribute is
looked up among the stored ones. The same table answers Tempo's questions for attribute names.
"""

from __future__ import annotations

from typing import Final

# TraceQL intrinsic → field.
INTRINSICS: Final[dict[str, str]] = {
    "name": "span_name",
    "duration": "duration_ms",
    "status": "status_code",
    "statusMessage": "error_message",
    "kind": "span_kind",
    "trace:id": "trace_id",
    "span:id": "span_id",
    "span:name": "span_name",
    "span:duration": "duration_ms",
    "span:status": "status_code",
    "span:kind": "span_kind",
}

# Attribute name of the OpenTelemetry conventions → field.
SPAN_ATTRIBUTES: Final[dict[str, str]] = {
    "gen_ai.provider.name": "provider",
    "gen_ai.system": "provider",
    "gen_ai.request.model": "request_model",
    "gen_ai.response.model": "model",
    "gen_ai.operation.name": "operation_type",
    "gen_ai.agent.name": "agent_name",
    "gen_ai.tool.name": "tool_name",
    "gen_ai.prompt.name": "prompt_name",
    "gen_ai.prompt.version": "prompt_version",
    "gen_ai.response.finish_reasons": "finish_reason",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.total_tokens": "total_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_write.input_tokens": "cache_write_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "gen_ai.usage.cost": "total_cost_usd",
    "gen_ai.conversation.id": "session_id",
    "session.id": "session_id",
    "user.id": "user_id",
    "error.type": "error_type",
}

RESOURCE_ATTRIBUTES: Final[dict[str, str]] = {
    "service.name": "service_name",
    "service.version": "service_version",
    "deployment.environment.name": "environment",
    "deployment.environment": "environment",
}

# Tags of Jaeger that are not attributes in OpenTelemetry → field.
JAEGER_TAGS: Final[dict[str, str]] = {
    "span.kind": "span_kind",
    "otel.status_code": "status_code",
    "otel.status_description": "error_message",
    "observatory.time_to_first_token_ms": "ttft_ms",
    "gen_ai.input.text": "input_text",
    "gen_ai.output.text": "output_text",
    "tag.tags": "tags",
}

# Names in Tempo's tag menus whose values come from facets, since they have few values.
STATUS_WORDS: Final[dict[str, str]] = {"error": "ERROR", "ok": "OK", "unset": "UNSET"}


def field_of(scope: str, name: str) -> str:
    """Return the field that TraceQL's ``scope`` (``span``, ``resource``, ```` for any, ``intrinsic``) and ``name``
    mean.
    """
    if scope == "intrinsic":
        return INTRINSICS[name]
    if scope == "resource":
        return RESOURCE_ATTRIBUTES.get(name) or f"resource.{name}"
    if scope == "span":
        return SPAN_ATTRIBUTES.get(name) or f"attribute.{name}"
    return SPAN_ATTRIBUTES.get(name) or RESOURCE_ATTRIBUTES.get(name) or f"attribute.{name}"
