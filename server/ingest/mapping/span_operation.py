"""The kind of work of a span, and who does it: the names of agent, tool and provider."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from server.ingest.dialects.attribute_table import dialect_tables, keys_of
from server.ingest.dialects.canonical_names import (
    FRAMEWORKS,
    GENERATION_OPERATIONS,
    KNOWN_PROVIDERS,
    METHODS,
    NAMING_OPERATIONS,
    OTHER_REQUESTS,
    canonical_operation,
    canonical_provider,
)
from server.ingest.dialects.scope_traits import ScopeTraits, provider_of_client
from server.ingest.mapping.attribute_choice import BODY_RANK, IndexedGroup, SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.messages.coercion import to_text
from server.ingest.otlp.payload import Attributes, DecodedSpan

ENTITY_OPERATIONS = frozenset({"agent", "tool"})
"""Operations of a thing with a name of its own."""

_VALUES: dict[str, dict[str, str]] = {
    key: values for table in dialect_tables() for key, values in table.get("values", {}).items()
}
_SPAN_NAMES: dict[str, str] = {
    name: operation for table in dialect_tables() for name, operation in table.get("span_names", {}).items()
}
"""Names of spans that mean an operation where no attribute tells one."""
_HINTS = keys_of("hints")
"""Keys that other senders use for something else: a value that no table knows says nothing."""
_STRUCTURAL = keys_of("structural")
_MODEL_PATHS = keys_of("model_paths")
_NAMED_BY_SPAN = frozenset(table["dialect"] for table in dialect_tables() if table.get("span_name_is_entity"))

_MODEL_SLOTS = frozenset({"model", "response_model", "request_model"})
_USAGE_SLOTS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", "total_cost_usd"})
_SLOTS_OF_A_CALL = _MODEL_SLOTS | _USAGE_SLOTS
_CONTENT_SLOTS = ("input", "output")
_ENTITY_SLOTS = frozenset({"agent_name", "tool_name", "entity_name"})
_STATUS_ERROR = 2
_SIGNS_OF_AN_ANSWER = ("response_id", "output", "prompt_tokens", "completion_tokens", "total_tokens")
_HTTP_KEYS = ("http.route", "http.request.method", "url.full", "url.path")


_MCP_CLIENT = "MCP send "
"""The prefix that MCP's SDK for Python puts before the name of a span of its client."""
FIRST_ENTITY = "entity.1.type"
"""A span without it lists no entities."""
_MOST_ENTITIES = 9
_TYPED_SLOTS: dict[str, str] = {
    kind: slot for table in dialect_tables() for kind, slot in table.get("typed_entities", {}).items()
}


def read_operation(fields: SpanFields, span: DecodedSpan, traits: ScopeTraits) -> tuple[str | None, str]:
    """Return the raw and the canonical operation.

    The name of the span decides where its scope says so, then the attributes. A model without any hint is a chat,
    unless the span is an HTTP request that shows neither usage nor content; a custom operation is ``other``.
    """
    raw: str | None = None
    operation: str | None = None
    source = ""
    for candidate in fields.candidates("operation"):
        key, value = candidate[1], candidate[2] if isinstance(candidate[2], str) else ""
        known = _known_operation(key, value)
        if known is None and key in _HINTS:
            fields.keep(candidate)
            continue
        if raw is None and value:
            raw = value.lower()
        if operation is None and known not in (None, "other"):
            operation, raw, source = known, value.lower(), key
            if known != value:
                fields.keep(candidate)
        elif value != operation:
            fields.keep(candidate)
    named = traits.operation_of(span.name) if traits.span_names else None
    if named is not None:
        operation, source = named, "name"
    if operation in GENERATION_OPERATIONS and source in _STRUCTURAL and not _is_call(fields):
        operation = "chain"
    if operation is None:
        operation = _unnamed_operation(fields, span, traits) if raw is None else "other"
    elif source:
        fields.sources["operation_type"] = source
    return raw, operation


def _known_operation(key: str, value: str) -> str | None:
    """Return the meaning of a value. Some keys have values of their own, in which a leading ``*`` matches any
    beginning, and ``*`` alone every value that no table knows.
    """
    values = _VALUES.get(key)
    if values is None:
        return canonical_operation(value)
    word = value.strip().lower()
    for pattern, operation in values.items():
        if word == pattern or (len(pattern) > 1 and pattern[0] == "*" and word.endswith(pattern[1:])):
            return operation
    return canonical_operation(value) or values.get("*")


def _is_call(fields: SpanFields) -> bool:
    """Return whether a span that is said to be a model call shows a model, usage or messages: steps and chunks of a
    call are said to be calls too, and have none of them.
    """
    found = fields.found
    if not _SLOTS_OF_A_CALL.isdisjoint(found):
        return True
    return any(isinstance(value, IndexedGroup) for slot in _CONTENT_SLOTS for _, _, value in found.get(slot, ()))


def _unnamed_operation(fields: SpanFields, span: DecodedSpan, traits: ScopeTraits) -> str:
    found = fields.found
    named = _SPAN_NAMES.get(span.name)
    if named is not None:
        return named
    if _MODEL_SLOTS.isdisjoint(found):
        return "other"
    has_usage = not _USAGE_SLOTS.isdisjoint(found)
    if traits.without_operation is not None and (traits.counted_in_logs or not has_usage):
        return traits.without_operation
    if not has_usage and any(fnmatchcase(span.name, pattern) for pattern in OTHER_REQUESTS):
        return "other"
    shows_a_call = has_usage or any(slot in found for slot in _CONTENT_SLOTS)
    return "chat" if shows_a_call or not any(key in fields.rest for key in _HTTP_KEYS) else "other"


def opens_a_stream(span: DecodedSpan, fields: SpanFields) -> bool:
    """Return whether a model call shows neither an answer nor an error: of senders with ``streams_apart``, another
    span tells what the stream said.
    """
    return span.status_code != _STATUS_ERROR and not any(slot in fields.found for slot in _SIGNS_OF_AN_ANSWER)


def read_entity(
    fields: SpanFields, operation: str, dialect: str, span: DecodedSpan, limits: MappingLimits
) -> tuple[str | None, str | None]:
    """Return the names of agent and tool. Where one is missing, an attribute that names whatever the span is about, or
    in some dialects the span itself, tells it; of a model call it tells provider and model.
    """
    if operation not in ENTITY_OPERATIONS and _ENTITY_SLOTS.isdisjoint(fields.found):
        return None, None
    agent = fields.take_text("agent_name", "agent_name", limits.name)
    tool = fields.take_text("tool_name", "tool_name", limits.name)
    entity = fields.found.pop("entity_name", ())
    missing = ENTITY_OPERATIONS.intersection((operation,)) and (agent if operation == "agent" else tool) is None
    if missing:
        column = f"{operation}_name"
        name = fields.take_text(column, f"named_{operation}", limits.name)
        told = "" if dialect in _NAMED_BY_SPAN else _told_by_name(span.name, operation)
        if name is None and (entity or told or dialect in _NAMED_BY_SPAN):
            fields.sources[column] = entity[0][1] if entity else "name"
            name = fields.clean(column, to_text(entity[0][2]) if entity else told or span.name, limits.name) or None
        if name is not None:
            return (name, tool) if operation == "agent" else (agent, name)
    for rank, key, value in entity:
        if operation in GENERATION_OPERATIONS and key in _MODEL_PATHS and isinstance(value, str):
            provider, _, model = value.rpartition("/")
            fields.add("request_model", BODY_RANK, key, model)
            if provider:
                fields.add("provider", BODY_RANK, key, provider.partition("/")[0])
        fields.keep((rank, key, value))
    return agent, tool


def _told_by_name(span_name: str, operation: str) -> str:
    """Return the name behind the operation, as the convention forms the names of spans: ``execute_tool map``; also
    that in front of the method, as OpenInference forms them: ``planner.run`` of an agent, ``map.__call__`` of a tool.
    """
    word, _, name = span_name.removeprefix(_MCP_CLIENT).partition(" ")
    if word in NAMING_OPERATIONS:
        return name
    owner, _, method = span_name.rpartition(".")
    return owner if method in METHODS.get(operation, ()) and "." not in owner else ""


def read_typed_entities(fields: SpanFields, attributes: Attributes) -> None:
    """Add what the entities name that a span lists by number, each with a type and a name, as Monocle does:
    ``entity.2.type`` = ``model.llm.gpt-4o`` and ``entity.2.name`` = ``gpt-4o`` name a model. A provider has no name;
    the rest of its type is one.
    """
    for number in range(1, _MOST_ENTITIES):
        kind, name = attributes.get(f"entity.{number}.type"), attributes.get(f"entity.{number}.name")
        if not isinstance(kind, str):
            continue
        slot = next((slot for head, slot in _TYPED_SLOTS.items() if kind == head or kind.startswith(f"{head}.")), None)
        if slot == "provider":
            name = kind.partition(".")[2]
        if slot is not None and isinstance(name, str) and name:
            fields.add(slot, BODY_RANK, f"entity.{number}.name", name)


def read_provider(
    fields: SpanFields, span: DecodedSpan, traits: ScopeTraits, service_name: str | None, limits: MappingLimits
) -> str | None:
    """Return the canonical provider that the attributes name, or that of the client whose class the span tells; None
    for a span that tells neither.
    """
    provider = _named_provider(fields, service_name, limits)
    if provider is None and traits.client_in is not None:
        client = span.name if traits.client_in == "name" else span.attributes.get(traits.client_in)
        provider = provider_of_client(client) if isinstance(client, str) else None
    return provider


def _named_provider(fields: SpanFields, service_name: str | None, limits: MappingLimits) -> str | None:
    """Return the canonical provider; the reported name stays among the attributes if it differs. A name that only the
    service has is none: Strands for JavaScript puts it there.
    """
    candidates = fields.found.get("provider")
    if candidates is not None and len(candidates) > 1:
        first, *others = fields.candidates("provider")
        if _is_unknown_host(first[2]) or _is_framework(first[2]):
            # The address of a gateway, or who called, says less than the client that was called.
            fields.keep(first)
            candidates = others
        fields.found["provider"] = candidates
    raw = fields.take_text("provider", "provider", limits.name)
    if raw is None:
        return None
    provider = canonical_provider(raw)
    if raw == service_name and provider not in KNOWN_PROVIDERS:
        provider = ""
    if provider != raw and candidates:
        fields.keep(candidates[0])
    return provider or None


def _is_framework(value: Any) -> bool:
    return isinstance(value, str) and canonical_provider(value) in FRAMEWORKS


def _is_unknown_host(value: Any) -> bool:
    """Return whether ``value`` is the address of a host that is no vendor's."""
    if not isinstance(value, str) or canonical_provider(value) in KNOWN_PROVIDERS:
        return False
    return "." in value or value.partition(":")[0] == "localhost"
