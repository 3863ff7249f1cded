"""The fields of a span, as one table.

A row of :data:`FIELDS` holds everything about a field: its SQL, its type and therefore its operators, its query
parameters, whether lists can sort by it and select it, and who may see it. The table feeds query parameters, the filter
document, SQL, OpenAPI, Grafana's tag keys, the reference page docs/reference/trace-query.md and the tests. Adding a
filter means adding a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final


class FieldType(StrEnum):
    """The kind of values a field holds; decides its operators (:data:`TYPE_OPERATORS`) and how values are read."""

    KEYWORD = "keyword"
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    TIME = "time"
    BOOLEAN = "boolean"
    TAGS = "tags"
    JSON = "json"
    FULL_TEXT = "full_text"


_COMPARE = ("eq", "ne", "gt", "gte", "lt", "lte", "between", "in", "not_in", "exists")
_SUBSTRING = ("contains", "not_contains", "starts_with", "ends_with")
TYPE_OPERATORS: Final[dict[FieldType, tuple[str, ...]]] = {
    FieldType.KEYWORD: ("eq", "ne", "in", "not_in", "exists", *_SUBSTRING, "regex"),
    FieldType.TEXT: ("eq", "ne", "exists", *_SUBSTRING),
    FieldType.INTEGER: _COMPARE,
    FieldType.NUMBER: _COMPARE,
    FieldType.MONEY: _COMPARE,
    FieldType.TIME: _COMPARE,
    FieldType.BOOLEAN: ("eq", "ne", "exists"),
    FieldType.TAGS: ("any", "all", "eq", "ne", "in", "not_in", "exists"),
    FieldType.JSON: ("exists",),
    FieldType.FULL_TEXT: ("search", "search_new", "contains", "not_contains", "meaning", "like"),
}
TYPE_SQL: Final[dict[FieldType, str]] = {
    FieldType.KEYWORD: "text",
    FieldType.TEXT: "text",
    FieldType.INTEGER: "bigint",
    FieldType.NUMBER: "double precision",
    FieldType.MONEY: "numeric",
    FieldType.TIME: "timestamptz",
    FieldType.BOOLEAN: "boolean",
    FieldType.TAGS: "text",
}
SORTABLE_TYPES: Final = frozenset({FieldType.INTEGER, FieldType.NUMBER, FieldType.MONEY, FieldType.TIME})


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceField:
    """One field of a span."""

    name: str
    type: FieldType
    group: str
    """The group by which fields are selected together: ``fields=core,usage``."""
    sentence: str
    parameter: str | None = None
    """Query parameter that takes a list of values; also a second name for the field in filters."""
    range_parameter: str | None = None
    """``x`` adds the query parameters ``min_x`` and ``max_x``, both included."""
    aliases: tuple[str, ...] = ()
    """Names of this field in other APIs; filters and orders accept them, too."""
    sql: str | None = None
    """Expression over the alias ``{t}``; None: the column of the same name."""
    choices: tuple[str, ...] = ()
    """All possible values; callers may write them in any case."""
    choice_aliases: tuple[tuple[str, str], ...] = ()
    nullable: bool = False
    sortable: bool | None = None
    """None: decided by the type (numbers and times are sortable)."""
    selectable: bool = True
    filterable: bool = True
    is_content: bool = False
    """Prompts, answers, error texts, attributes: hidden from scopes that may not read content."""
    is_large: bool = False
    """Fetched only on request."""
    is_previewed: bool = False
    """Large, but rows of lists have its first characters if no ``fields`` are named."""

    def expression(self, alias: str = "t") -> str:
        """Return the field in SQL, over a row of llm_traces called ``alias``."""
        return (self.sql or f"{{t}}.{self.name}").format(t=alias)

    @property
    def permission(self) -> str:
        """The scope that a question about numbers needs to filter by it, because counting the matches of a guess
        reveals the value.

        (:attr:`is_content` guards content, in every question.)
        """
        return "costs:read" if self.type is FieldType.MONEY else "metrics:read"

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that a filter may use with this field."""
        return TYPE_OPERATORS[self.type] if self.filterable else ()

    @property
    def is_sortable(self) -> bool:
        """Whether lists may be sorted by it."""
        return self.type in SORTABLE_TYPES if self.sortable is None else self.sortable

    @property
    def is_default(self) -> bool:
        """Whether rows include it if no ``fields`` are named."""
        return self.selectable and not self.is_large


def _keyword(name: str, group: str, sentence: str, **rest: Any) -> TraceField:
    rest.setdefault("parameter", name)
    return TraceField(name=name, type=FieldType.KEYWORD, group=group, sentence=sentence, **rest)


def _tokens(name: str, sentence: str) -> TraceField:
    return TraceField(
        name=name, type=FieldType.INTEGER, group="usage", sentence=sentence, range_parameter=name, nullable=True
    )


def _money(name: str, sentence: str, range_parameter: str, *aliases: str) -> TraceField:
    return TraceField(
        name=name,
        type=FieldType.MONEY,
        group="cost",
        sentence=sentence,
        range_parameter=range_parameter,
        aliases=aliases,
        nullable=True,
    )


def _detail(key: str, name: str, sentence: str) -> TraceField:
    """Return the field of one count in usage_details, which only filters take."""
    return TraceField(
        name=name,
        type=FieldType.INTEGER,
        group="virtual",
        sentence=sentence,
        range_parameter=name,
        sql=f"({{t}}.usage_details ->> '{key}')::bigint",
        nullable=True,
        selectable=False,
        sortable=False,
    )


def _payload(
    name: str, field_type: FieldType, group: str, sentence: str, *, content: bool = True, previewed: bool = False
) -> TraceField:
    return TraceField(
        name=name,
        type=field_type,
        group=group,
        sentence=sentence,
        nullable=True,
        is_content=content,
        is_large=True,
        is_previewed=previewed,
    )


_SIDES: Final = {
    "input": "1:{t}.input_parts",
    "output": "{t}.input_parts + 1:cardinality({t}.parts) - coalesce({t}.more_parts, 0)",
}
"""SQL for the parts of a row that belong to one side (input or output)."""


def _content(name: str, field_type: FieldType, sentence: str, *, previewed: bool = False) -> TraceField:
    """Return the field of a content column, whose value is in the row or in parts that several rows share (migrations
    0070, 0071 and 0107).
    """
    side, _, form = name.partition("_")
    of_parts = f"{{t}}.project_id, {{t}}.ts, {{t}}.parts[{_SIDES[side]}]"
    shared = f"shared_{form}({of_parts})"
    if name == "output_messages":
        shared = f"shared_answers({of_parts}, CASE WHEN {{t}}.states_finish THEN {{t}}.finish_reason END)"
        shared = f"CASE WHEN {{t}}.result_alone IS NOT TRUE THEN {shared} END"
    if name == "output_text":
        result = "shared_result({t}.project_id, {t}.ts, {t}.parts[{t}.input_parts + 1])"
        shared = f"CASE WHEN {{t}}.result_alone THEN {result} ELSE {shared} END"
    field = _payload(name, field_type, "io", sentence, previewed=previewed)
    return replace(field, sql=f"coalesce({{t}}.{name}, {shared})")


_WHOLE_ATTRIBUTES: Final = (
    "CASE WHEN {t}.more_parts > 0 THEN shared_attributes({t}.project_id, {t}.ts, {t}.attributes, "
    "{t}.parts[cardinality({t}.parts) - {t}.more_parts + 1:]) ELSE {t}.attributes END"
)
"""Long attributes are in parts (migration 0073), and null in the row."""


_RESOURCE: Final = (
    "CASE WHEN {t}.resource_id IS NULL THEN {t}.resource_attributes "
    "ELSE shared_resource({t}.project_id, {t}.resource_id) END"
)
"""Resource attributes, stored once for many spans (migration 0105)."""


def document_with(column: str, key: str, alias: str = "t") -> str:
    """Return ``attributes`` or ``resource_attributes`` in SQL, with the value of ``key`` (an SQL expression); others
    may be null.
    """
    return attributes_with(key, alias) if column == "attributes" else f"({_RESOURCE.format(t=alias)})"


def attributes_with(key: str, alias: str = "t") -> str:
    """Return the attributes in SQL, with the value of ``key`` (an SQL expression); others may be null."""
    whole = _WHOLE_ATTRIBUTES.format(t=alias)
    return f"(CASE WHEN {alias}.attributes -> {key} = 'null' THEN {whole} ELSE {alias}.attributes END)"


_SPAN_KINDS = ("internal", "server", "client", "producer", "consumer", "unspecified")
_STATUS_WORDS = (("success", "OK"), ("error", "ERROR"), ("pending", "UNSET"))

_TABLE: Final[tuple[TraceField, ...]] = (
    # core: shown in every list
    TraceField(name="ts", type=FieldType.TIME, group="core", sentence="Start of the span, UTC, microseconds."),
    _keyword("trace_id", "core", "The trace that the span belongs to.", sortable=True),
    _keyword("span_id", "core", "The span; unique within its trace.", sortable=True),
    _keyword(
        "parent_span_id",
        "core",
        "The span that called this one; `parent=none` asks for root spans.",
        parameter="parent",
        nullable=True,
    ),
    _keyword("project_id", "core", "The project (tenant).", parameter=None, filterable=False),
    _keyword("span_name", "core", "Name of the span."),
    _keyword("span_kind", "core", "OpenTelemetry span kind.", choices=_SPAN_KINDS),
    _keyword("operation_type", "core", "Kind of operation: chat, embedding, tool, agent and so on."),
    _keyword("provider", "core", "Vendor of the model, canonical name.", nullable=True, sortable=True),
    _keyword("model", "core", "The model that answered.", nullable=True, sortable=True),
    _keyword(
        "status_code",
        "core",
        "OK, ERROR or UNSET; filters also take success, error and pending.",
        parameter="status",
        choices=("OK", "ERROR", "UNSET"),
        choice_aliases=_STATUS_WORDS,
        sortable=True,
    ),
    TraceField(
        name="duration_ms",
        type=FieldType.NUMBER,
        group="core",
        sentence="Duration in milliseconds.",
        range_parameter="duration",
        aliases=("latency_ms",),
    ),
    # timing
    TraceField(
        name="ttft_ms",
        type=FieldType.NUMBER,
        group="timing",
        sentence="Time to the first token in milliseconds.",
        range_parameter="ttft",
        aliases=("time_to_first_token_ms",),
        nullable=True,
    ),
    # service
    _keyword("service_name", "service", "Service that sent the span.", parameter="service", nullable=True),
    _keyword("service_version", "service", "Version of that service.", nullable=True),
    _keyword("environment", "service", "Deployment environment.", sortable=True),
    # generation: the call of a model
    TraceField(
        name="is_generation",
        type=FieldType.BOOLEAN,
        group="generation",
        sentence="True for a span that counts in sums: a call of a model, or an agent whose calls report no usage.",
        parameter="is_generation",
    ),
    _keyword("request_model", "generation", "The requested model.", nullable=True),
    _keyword("agent_name", "generation", "Name of the agent.", nullable=True),
    _keyword("tool_name", "generation", "Name of the tool.", nullable=True),
    _keyword("prompt_name", "generation", "Name of the prompt template.", nullable=True),
    _keyword("prompt_version", "generation", "Version of the prompt template.", nullable=True),
    _keyword("input_type", "generation", "Shape of the input: text, messages and so on.", nullable=True),
    _keyword("finish_reason", "generation", "Why the model stopped.", nullable=True),
    # usage
    _tokens("prompt_tokens", "Input tokens, cache reads and writes included."),
    _tokens("completion_tokens", "Output tokens, reasoning included."),
    TraceField(
        name="total_tokens",
        type=FieldType.INTEGER,
        group="usage",
        sentence="Input and output tokens together.",
        range_parameter="tokens",
        nullable=True,
    ),
    _tokens("cached_tokens", "Input tokens read from the provider's cache."),
    _tokens("cache_write_tokens", "Input tokens written to the provider's cache."),
    _tokens("reasoning_tokens", "Output tokens spent on reasoning."),
    # cost
    _money("prompt_cost_usd", "Cost of the input in US dollars.", "prompt_cost", "input_cost_usd"),
    _money("completion_cost_usd", "Cost of the output in US dollars.", "completion_cost", "output_cost_usd"),
    _money("total_cost_usd", "Cost of the span in US dollars.", "cost"),
    _money("cache_savings_usd", "Savings through the provider's cache, in US dollars.", "cache_savings"),
    _keyword(
        "cost_source",
        "cost",
        "Where the cost came from: reported, computed, override or none.",
        choices=("reported", "computed", "override", "none"),
    ),
    _keyword("price_version", "cost", "Version of the price list that was applied.", nullable=True),
    # identity
    _keyword("user_id", "identity", "The end user.", nullable=True),
    _keyword("session_id", "identity", "The session (conversation).", nullable=True),
    TraceField(
        name="tags",
        type=FieldType.TAGS,
        group="identity",
        sentence="Labels of the span; `tags` asks for any of them, `tags_all` for all.",
        parameter="tags",
    ),
    # error
    TraceField(
        name="has_error",
        type=FieldType.BOOLEAN,
        group="error",
        sentence="Whether the status is ERROR.",
        parameter="has_error",
        sql="({t}.status_code = 'ERROR')",
    ),
    _keyword("error_type", "error", "Class of the error.", nullable=True),
    TraceField(
        name="error_message",
        type=FieldType.TEXT,
        group="error",
        sentence="Text of the error.",
        nullable=True,
        is_content=True,
    ),
    # io: prompts and answers
    _content("input_text", FieldType.TEXT, "The prompt as text.", previewed=True),
    _content("input_messages", FieldType.JSON, "The prompt as messages."),
    _content("output_text", FieldType.TEXT, "The answer as text.", previewed=True),
    _content("output_messages", FieldType.JSON, "The answer as messages."),
    # raw: everything that was sent
    replace(
        _payload("attributes", FieldType.JSON, "raw", "All attributes of the span; filter with `attribute.KEY`."),
        sql=_WHOLE_ATTRIBUTES,
    ),
    replace(
        _payload(
            "resource_attributes",
            FieldType.JSON,
            "raw",
            "Attributes of the process that sent the span; filter with `resource.KEY`.",
            content=False,
        ),
        sql=_RESOURCE,
    ),
    _payload("events", FieldType.JSON, "raw", "Events of the span."),
    _payload("links", FieldType.JSON, "raw", "Links to other spans, with the attributes that they carry."),
    _payload(
        "dropped", FieldType.JSON, "raw", "Parts that were cut at a limit when the span was received.", content=False
    ),
    # record: how the span was stored
    _keyword("dialect", "record", "The instrumentation dialect that the span was read as."),
    TraceField(
        name="usage_rule",
        type=FieldType.INTEGER,
        group="record",
        sentence="The rule that made the token counts inclusive; see docs/explanation/token-semantics.md.",
        nullable=True,
        sortable=False,
    ),
    TraceField(
        name="count_rule",
        type=FieldType.INTEGER,
        group="record",
        sentence="The rule by which the span counts or not; see docs/explanation/token-semantics.md.",
        nullable=True,
        sortable=False,
    ),
    _keyword(
        "counted_in",
        "record",
        "The span that counts for the same call, if it is not this one.",
        parameter=None,
        nullable=True,
    ),
    _payload(
        "usage_details",
        FieldType.JSON,
        "record",
        "Tokens by medium, cache writes by lifetime, web searches, service tier, and a cost in another currency.",
        content=False,
    ),
    _payload(
        "inherited",
        FieldType.JSON,
        "record",
        "Parts that the span took from other reports of its call or from spans above: each part, and whose it was.",
        content=False,
    ),
    TraceField(name="ingested_at", type=FieldType.TIME, group="record", sentence="When the span was stored."),
    # virtual: only for filters
    _detail("input_audio", "input_audio_tokens", "Input tokens of audio."),
    _detail("cached_audio", "cached_audio_tokens", "Input tokens of audio that were read from the cache."),
    _detail("output_audio", "output_audio_tokens", "Output tokens of audio."),
    _detail("input_image", "input_image_tokens", "Input tokens of images."),
    _detail("output_image", "output_image_tokens", "Output tokens of images."),
    _detail("cache_write_5m", "cache_write_5m_tokens", "Input tokens written to the cache for five minutes."),
    _detail("cache_write_1h", "cache_write_1h_tokens", "Input tokens written to the cache for an hour."),
    _detail("compaction_input", "compaction_input_tokens", "Input tokens spent on shortening the conversation."),
    _detail("web_searches", "web_searches", "Web searches that the vendor billed."),
    _keyword(
        "service_tier",
        "virtual",
        "Service tier of the call: `batch`, `flex`, `priority` and so on.",
        sql="{t}.usage_details ->> 'service_tier'",
        nullable=True,
        selectable=False,
    ),
    TraceField(
        name="is_root",
        type=FieldType.BOOLEAN,
        group="virtual",
        sentence="Whether the span has no parent.",
        parameter="is_root",
        sql="({t}.parent_span_id IS NULL)",
        selectable=False,
    ),
    TraceField(
        name="text",
        type=FieldType.FULL_TEXT,
        group="virtual",
        sentence="Prompts, messages and answers, for full-text search; `contains` looks at input_text and output_text.",
        sql="{t}.search_vector",
        selectable=False,
        sortable=False,
        is_content=True,
    ),
)

FIELDS: Final[dict[str, TraceField]] = {field.name: field for field in _TABLE}
"""Every field by name, in the order in which rows show them."""

_ALIASES: Final[dict[str, str]] = {
    alias: field.name for field in _TABLE for alias in (field.parameter, field.range_parameter, *field.aliases) if alias
}


def field_named(name: str) -> TraceField | None:
    """Return the field called ``name``, which is its own name or that of its parameter (``status``, ``cost``)."""
    return FIELDS.get(name) or FIELDS.get(_ALIASES.get(name, ""))


@dataclass(frozen=True, slots=True)
class KeyedField:
    """A family of fields ``PREFIX.KEY``, such as ``attribute.KEY``; any key is allowed."""

    prefix: str
    sentence: str
    is_content: bool


KEYED_OPERATORS: Final = (*_COMPARE, *_SUBSTRING)
LONGEST_KEY: Final = 256

KEYED_FIELDS: Final[dict[str, KeyedField]] = {
    field.prefix: field
    for field in (
        KeyedField(
            "attribute", "An attribute of the span, compared as text, or as a number if the value is a number.", True
        ),
        KeyedField("resource", "A resource attribute, compared like a span's attribute.", False),
        KeyedField("score", "A score of the span or of its whole trace, by name.", False),
    )
}


def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups that ``fields`` takes, each with its selectable fields; ``all`` has every one."""
    found: dict[str, tuple[str, ...]] = {}
    for field in _TABLE:
        if field.selectable:
            found[field.group] = (*found.get(field.group, ()), field.name)
    return {**found, "all": tuple(field.name for field in _TABLE if field.selectable)}
