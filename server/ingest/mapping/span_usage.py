"""Tokens and money of a span: read, normalised, priced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.token_semantics import TokenCounts, normalise_tokens
from server.ingest.messages.coercion import MAX_TOKENS, round_usd, to_tokens, to_usd
from server.ingest.pricing.price_book import PriceBook, Usage

_TOKEN_COLUMNS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_COST_COLUMNS = ("prompt_cost_usd", "completion_cost_usd", "total_cost_usd")


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


def read_usage(
    fields: SpanFields,
    *,
    dialect: str,
    provider: str | None,
    model: str | None,
    ts: datetime,
    pricing: PriceBook | None,
    ignored: bool,
) -> SpanUsage:
    """Read the usage slots. ``pricing`` is None for a span that is not a model call: it keeps the values it reports.

    ``ignored``: the span repeats the usage of another one; its attributes are kept, not counted.
    """
    if ignored:
        return SpanUsage()
    found = fields.found
    counts = TokenCounts(*[fields.take(slot, slot, to_tokens) if slot in found else None for slot in _TOKEN_COLUMNS])
    write_1h = None
    if "cache_write_5m_tokens" in found or "cache_write_1h_tokens" in found:
        write_1h = _one_hour_writes(fields, counts)
    reported = (counts.prompt, counts.completion, counts.total)
    sources = fields.sources
    rule = normalise_tokens(
        counts,
        dialect=dialect,
        provider=provider,
        model=model,
        cache_keys=(sources.get("cached_tokens"), sources.get("cache_write_tokens")),
        semantics=fields.take_text("token_semantics", "token_semantics", 32),
    )
    normalised = (counts.prompt, counts.completion, counts.total)
    if normalised != reported:
        _keep_changed(fields, reported, normalised)
    usage = SpanUsage(
        _in_range(counts.prompt),
        _in_range(counts.completion),
        counts.total,
        counts.cached,
        counts.cache_write,
        counts.reasoning,
        usage_rule=rule,
    )
    _read_costs(fields, usage)
    if pricing is not None:
        _price(fields, usage, provider, model, ts, write_1h, pricing)
    return usage


def _in_range(count: int | None) -> int | None:
    return None if count is None else min(count, MAX_TOKENS)


def _one_hour_writes(fields: SpanFields, counts: TokenCounts) -> int | None:
    """Return the sum of cache writes split by lifetime if there is no total; the split stays in attributes."""
    parts: list[int | None] = []
    for slot in ("cache_write_5m_tokens", "cache_write_1h_tokens"):
        candidates = list(fields.found.get(slot, ()))
        parts.append(fields.take("cache_write_tokens", slot, to_tokens))
        for candidate in candidates:
            fields.keep(candidate)
    if counts.cache_write is None:
        counts.cache_write = sum(part or 0 for part in parts)
    return parts[1]


def _keep_changed(fields: SpanFields, reported: tuple[int | None, ...], normalised: tuple[int | None, ...]) -> None:
    """Keep a count that a rule changed, as it was sent, among the attributes."""
    for column, before, now in zip(_TOKEN_COLUMNS, reported, normalised, strict=False):
        if before is not None and before != now and column in fields.sources:
            fields.rest[fields.sources[column]] = before


def _read_costs(fields: SpanFields, usage: SpanUsage) -> None:
    """Read reported costs, which win over every computed one. Parts that were not reported stay empty."""
    found = fields.found
    for column in _COST_COLUMNS:
        if column in found:
            setattr(usage, column, fields.take(column, column, to_usd))
    if usage.total_cost_usd is None and usage.prompt_cost_usd is not None and usage.completion_cost_usd is not None:
        usage.total_cost_usd = round_usd(usage.prompt_cost_usd + usage.completion_cost_usd)
        fields.sources["total_cost_usd"] = "prompt_cost_usd + completion_cost_usd"
    if usage.total_cost_usd is not None:
        usage.cost_source = "reported"


def _price(
    fields: SpanFields,
    usage: SpanUsage,
    provider: str | None,
    model: str | None,
    ts: datetime,
    write_1h: int | None,
    pricing: PriceBook,
) -> None:
    tier = fields.take_text("service_tier", "service_tier", 32)
    if tier is not None:
        fields.rest[fields.sources["service_tier"]] = tier
    quote = pricing.quote(
        provider,
        model,
        ts,
        Usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            write_1h,
            usage.reasoning_tokens,
        ),
        tier,
    )
    if quote is None:
        return
    if usage.cached_tokens or usage.cache_write_tokens:
        usage.cache_savings_usd = quote.cache_savings_usd
    if usage.cost_source == "reported":
        return
    usage.prompt_cost_usd, usage.completion_cost_usd = quote.prompt_usd, quote.completion_usd
    usage.total_cost_usd, usage.cost_source, usage.price_version = quote.total_usd, quote.source, quote.version
    for column in _COST_COLUMNS:
        fields.sources[column] = quote.version
