"""Tokens and money of a span: read, normalised, priced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.reported_cost import ReportedCost, read_reported_cost
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.mapping.token_semantics import FLAT_PREFIXES, CountEvidence, TokenCounts, normalise_tokens
from server.ingest.messages.coercion import MAX_TOKENS, to_tokens
from server.ingest.pricing.price_book import PriceBook, Quote, Usage

_TOKEN_COLUMNS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COST_COLUMNS = ("prompt_cost_usd", "completion_cost_usd", "total_cost_usd")
_TIER_LENGTH = 32

DETAIL_SLOTS: Final = {
    f"{name}_count": name
    for name in (
        "input_text", "input_audio", "input_image", "input_video", "cached_audio", "cached_image", "output_text",
        "output_audio", "output_image", "output_video", "compaction_input", "compaction_output", "web_searches",
        "storage_searches", "code_executions", "rerank_searches", "input_audio_seconds", "audio_seconds",
        "input_characters", "document_pages",
    )
}  # fmt: skip
"""Slots of counts without a column of their own, and their names in ``usage_details``."""


@dataclass(slots=True)
class SpanUsage:
    """The token and money columns."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    prompt_cost_usd: Decimal | None = None
    completion_cost_usd: Decimal | None = None
    total_cost_usd: Decimal | None = None
    cache_savings_usd: Decimal | None = None
    cost_source: str = "none"
    price_version: str | None = None
    usage_rule: int | None = None
    usage_details: dict[str, Any] | None = None

    def fill(self, record: SpanRecord) -> None:
        """Set the columns of ``record``."""
        record.prompt_tokens, record.completion_tokens = self.prompt_tokens, self.completion_tokens
        record.total_tokens, record.reasoning_tokens = self.total_tokens, self.reasoning_tokens
        record.cached_tokens, record.cache_write_tokens = self.cached_tokens, self.cache_write_tokens
        record.usage_details, record.usage_rule = self.usage_details, self.usage_rule
        record.prompt_cost_usd, record.completion_cost_usd = self.prompt_cost_usd, self.completion_cost_usd
        record.total_cost_usd, record.cache_savings_usd = self.total_cost_usd, self.cache_savings_usd
        record.cost_source, record.price_version = self.cost_source, self.price_version

    @property
    def is_reported_free(self) -> bool:
        """Whether the sender says that the call cost nothing."""
        return self.cost_source == "reported" and not self.total_cost_usd

    def forget_zero_cost(self) -> None:
        """Take back a reported cost of 0 of a call that failed and used nothing: nobody was billed."""
        if self.is_reported_free and not self.total_tokens:
            self.forget_cost()

    def forget_cost(self) -> None:
        """Take back the cost that was reported."""
        self.prompt_cost_usd = self.completion_cost_usd = self.total_cost_usd = None
        self.cost_source, self.price_version = "none", None


def read_usage(
    fields: SpanFields,
    *,
    dialect: str,
    provider: str | None,
    model: str | None,
    ts: datetime,
    pricing: PriceBook | None,
    ignored: bool,
    operation: str = "chat",
    scope: str = "",
    estimates_cost: bool = False,
) -> SpanUsage:
    """Take the usage slots. ``pricing`` is None for a span that cannot count: it keeps what it reports.

    ``ignored``: the span repeats the usage of another one; its attributes are kept, not counted. ``estimates_cost``:
    its costs are from a price list of the instrumentation.
    """
    if ignored:
        return SpanUsage()
    found = fields.found
    taken: list[Any] = [fields.take(slot, slot, to_tokens) if slot in found else None for slot in _TOKEN_COLUMNS]
    counts = TokenCounts(*taken)
    details = _read_details(fields, counts) if not _DETAIL_NAMES.isdisjoint(found) else {}
    if operation == "embedding" and counts.prompt is None and counts.completion is None:
        counts.prompt = counts.total
    reported = (counts.prompt, counts.completion, counts.total)
    if counts.prompt == 0 and not counts.completion and not counts.total and operation in GENERATION_OPERATIONS:
        # No call is made without input: a client that was not told the usage of a stream says 0.
        counts.prompt = counts.completion = counts.total = None
    raw_prompt = fields.take("prompt_tokens_raw", "prompt_tokens_raw", to_tokens) if _RAW in found else None
    if raw_prompt is not None:
        _add_missing_writes(fields, counts, raw_prompt)
    rule = normalise_tokens(
        counts,
        CountEvidence(
            dialect,
            provider,
            model,
            scope,
            _read_semantics(fields) if "token_semantics" in found else None,
            fields.sources,
            raw_prompt,
        ),
    )
    if details:
        _add_compaction(counts, details)
    normalised = (counts.prompt, counts.completion, counts.total)
    if normalised != reported:
        _keep_changed(fields, reported, normalised)
    tier = _read_tier(fields) if "service_tier" in found or "speed" in found else None
    if tier is not None:
        details["service_tier"] = tier
    usage = SpanUsage(
        None if counts.prompt is None else min(counts.prompt, MAX_TOKENS),
        None if counts.completion is None else min(counts.completion, MAX_TOKENS),
        counts.total,
        counts.cached,
        counts.cache_write,
        counts.reasoning,
        usage_rule=rule,
    )
    cost = read_reported_cost(fields, dialect, usage.prompt_tokens, usage.completion_tokens, pricing)
    if cost is not None:
        _report(usage, cost, details)
    usage.usage_details = details or None
    if pricing is not None:
        is_doubtful = estimates_cost or (usage.is_reported_free and _may_be_unpriced(fields, dialect, scope))
        _price(fields, usage, provider, model, ts, pricing, is_doubtful=is_doubtful)
        if estimates_cost and usage.is_reported_free and usage.total_tokens:
            usage.forget_cost()
    return usage


_BILLERS = ("litellm", "langfuse", "observatory_sdk")
"""Dialects, scopes and heads of attributes of which a cost of 0 is a statement: of a proxy's bill, or of the person who
sends it."""


def _may_be_unpriced(fields: SpanFields, dialect: str, scope: str) -> bool:
    """Return whether a reported cost of 0 may only mean that the sender knows no price. An answer from the cache of a
    gateway is free.
    """
    source = fields.sources.get("total_cost_usd", "")
    if dialect in _BILLERS or scope.startswith(_BILLERS) or source.startswith(_BILLERS):
        return False
    return not any(key.endswith("cache_hit") and value not in (False, "false") for key, value in fields.rest.items())


_RAW = "prompt_tokens_raw"
_LIFETIMES = {"cache_write_5m_tokens": "cache_write_5m", "cache_write_1h_tokens": "cache_write_1h"}
_DETAILS = {**DETAIL_SLOTS, **_LIFETIMES}
_DETAIL_NAMES = frozenset(_DETAILS)


def usage_of(column: Callable[[str], Any]) -> tuple[Usage, str | None]:
    """Return the usage by which a stored span is priced, and its service tier; ``column`` returns values of the row."""
    details: dict[str, Any] = dict(column("usage_details") or {})
    tier = details.pop("service_tier", None)
    return Usage(
        column("prompt_tokens"),
        column("completion_tokens"),
        column("cached_tokens"),
        column("cache_write_tokens"),
        details.get("cache_write_1h"),
        column("reasoning_tokens"),
        {name: count for name, count in details.items() if isinstance(count, int)},
    ), tier


def details_in(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the details and the service tier that the attributes of a span tell: for rows from before they had a
    column.
    """
    fields = SpanFields()
    fields.collect(attributes)
    details = _read_details(fields, TokenCounts(None, None, None, None, None, None))
    tier = _read_tier(fields)
    return details if tier is None else {**details, "service_tier": tier}


def _read_semantics(fields: SpanFields) -> str | None:
    return fields.take_text("token_semantics", "token_semantics", _TIER_LENGTH)


def _read_details(fields: SpanFields, counts: TokenCounts) -> dict[str, Any]:
    """Count by medium, cache writes by lifetime, and what is billed beside tokens. All stay attributes too."""
    details: dict[str, Any] = {}
    for slot, name in _DETAILS.items():
        if slot not in fields.found:
            continue
        candidates = list(fields.found[slot])
        count = fields.take(name, slot, to_tokens)
        for candidate in candidates:
            fields.keep(candidate)
        if not count:
            continue
        details[name] = count
        is_beside = fields.sources[name].startswith(FLAT_PREFIXES)
        if is_beside and slot in _BESIDE_INPUT:
            counts.media_beside_input += count
        elif is_beside and slot in _BESIDE_OUTPUT:
            counts.media_beside_output += count
    lifetimes = [details.get(name) for name in _LIFETIMES.values()]
    if not counts.cache_write and any(lifetimes):
        counts.cache_write = sum(count or 0 for count in lifetimes)
        fields.sources["cache_write_tokens"] = next(
            fields.sources[name] for name in _LIFETIMES.values() if name in details
        )
    return details


_BESIDE_INPUT = frozenset({"input_audio_count", "input_image_count", "input_video_count"})
_BESIDE_OUTPUT = frozenset({"output_audio_count", "output_image_count", "output_video_count"})


def _add_missing_writes(fields: SpanFields, counts: TokenCounts, raw_prompt: int) -> None:
    """Fill cache writes that only a difference tells: of an input with the cache, what is neither new nor read."""
    if counts.prompt is None or counts.cached is None or counts.cache_write is not None:
        return
    written = counts.prompt - raw_prompt - counts.cached
    if written > 0:
        counts.cache_write = written
        fields.sources["cache_write_tokens"] = fields.sources["prompt_tokens_raw"]


def _add_compaction(counts: TokenCounts, details: dict[str, Any]) -> None:
    """Add the tokens that the vendor used to shorten the conversation: they are billed outside the usage of the
    answer.
    """
    before, after = details.get("compaction_input", 0), details.get("compaction_output", 0)
    if before:
        counts.prompt = (counts.prompt or 0) + before
    if after:
        counts.completion = (counts.completion or 0) + after
    if before or after:
        counts.total = (counts.total or 0) + before + after


def _keep_changed(fields: SpanFields, reported: tuple[int | None, ...], normalised: tuple[int | None, ...]) -> None:
    """Keep a count that a rule changed, as it was sent, among the attributes."""
    if reported == (normalised[0], normalised[1], None):  # most senders leave the total to be added up
        return
    for column, before, now in zip(_TOKEN_COLUMNS, reported, normalised, strict=False):
        if before is not None and before != now and column in fields.sources:
            fields.rest[fields.sources[column]] = before


def _read_tier(fields: SpanFields) -> str | None:
    """Return the service tier of the call, in lower case; the attribute stays."""
    speed = fields.take_text("speed", "speed", _TIER_LENGTH)
    if speed is not None:
        fields.rest[fields.sources["speed"]] = speed
    tier = fields.take_text("service_tier", "service_tier", _TIER_LENGTH)
    if tier is not None:
        fields.rest[fields.sources["service_tier"]] = tier
        tier = tier.strip('"').lower()
    return "speed fast" if speed is not None and speed.lower() == "fast" else tier


def _report(usage: SpanUsage, cost: ReportedCost, details: dict[str, Any]) -> None:
    """Read reported costs, which win over every computed one. Parts that were not reported stay empty."""
    usage.prompt_cost_usd, usage.completion_cost_usd, usage.total_cost_usd = cost.prompt, cost.completion, cost.total
    usage.price_version = cost.note
    details.update(cost.details)
    if cost.total is not None:
        usage.cost_source = "reported"


def _price(
    fields: SpanFields,
    usage: SpanUsage,
    provider: str | None,
    model: str | None,
    ts: datetime,
    pricing: PriceBook,
    *,
    is_doubtful: bool,
) -> None:
    details = usage.usage_details
    if details is None:
        parts = Usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            None,
            usage.reasoning_tokens,
        )
        quote = pricing.quote(provider, model, ts, parts)
    else:
        parts, tier = usage_of(lambda column: getattr(usage, column))
        quote = pricing.quote(provider, model, ts, parts, tier)
    if quote is None:
        return
    if usage.cached_tokens or usage.cache_write_tokens:
        usage.cache_savings_usd = quote.cache_savings_usd
    if usage.cost_source != "reported":
        _take_quote(fields, usage, quote)
    elif is_doubtful and quote.total_usd:
        _keep_reported(fields, usage)
        _take_quote(fields, usage, quote)


def _keep_reported(fields: SpanFields, usage: SpanUsage) -> None:
    """Leave a reported cost that was not believed among the attributes."""
    for column in _COST_COLUMNS:
        amount, key = getattr(usage, column), fields.sources.get(column, " ")
        if amount is not None and " " not in key:
            fields.rest[key] = float(amount)


def _take_quote(fields: SpanFields, usage: SpanUsage, quote: Quote) -> None:
    usage.prompt_cost_usd, usage.completion_cost_usd = quote.prompt_usd, quote.completion_usd
    usage.total_cost_usd, usage.cost_source, usage.price_version = quote.total_usd, quote.source, quote.version
    for column in _COST_COLUMNS:
        fields.sources[column] = quote.version
