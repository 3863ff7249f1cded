"""The cost of a model call: reported, overridden by the operator, or computed from the catalogue.

The order is: a cost that the span reports wins; then an override of the operator; then the catalogue's price of the
span's own day. The source and the version are stored in the row, so a later price change can be told from a mistake,
and ``reprice`` can redo it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from server.ingest.dialects.canonical_names import canonical_provider
from server.ingest.messages.coercion import MAX_USD, round_usd
from server.ingest.pricing.price_catalog import PriceCatalog, RateBand, RateCard, price_catalog

_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverride:
    """A price that the operator set: a row of ``price_overrides``. US dollars per million tokens.

    A cache rate that is None is the input rate. ``model`` is compared without case.
    """

    provider: str
    model: str
    valid_from: datetime
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None

    def card(self) -> RateCard:
        """Return the override in the form of the catalogue."""
        prompt = self.input_usd_per_mtok / _MILLION
        completion = self.output_usd_per_mtok / _MILLION
        read, write = self.cache_read_usd_per_mtok, self.cache_write_usd_per_mtok
        cache_write = prompt if write is None else write / _MILLION
        band = RateBand(
            -1, prompt, completion, prompt if read is None else read / _MILLION, cache_write, cache_write, completion
        )
        return RateCard((band,), _ZERO, f"override {self.valid_from:%Y-%m-%d}")


class Usage(NamedTuple):
    """Tokens of one model call in the inclusive form (see ``token_semantics``)."""

    prompt: int | None
    completion: int | None
    cached: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    """The part of ``cache_write`` that is kept for an hour, which some vendors charge more for."""
    reasoning: int | None = None


class Quote(NamedTuple):
    """A computed price in US dollars, rounded to the columns' ten decimals."""

    prompt_usd: Decimal
    completion_usd: Decimal
    total_usd: Decimal
    cache_savings_usd: Decimal
    """Savings through the cache compared with the same call without it; negative if writing cost more than reading
    saved.
    """
    source: str
    """``computed`` or ``override``: values of ``cost_source``."""
    version: str


class PriceBook:
    """The prices of one project: its overrides over the shared catalogue. Cheap to create, safe to share."""

    def __init__(self, overrides: Iterable[PriceOverride] = (), catalog: PriceCatalog | None = None) -> None:
        self._catalog = catalog or price_catalog()
        self._overrides: dict[tuple[str, str], list[tuple[datetime, RateCard]]] = {}
        for override in sorted(overrides, key=lambda item: item.valid_from):
            name = (canonical_provider(override.provider), override.model.strip().lower())
            self._overrides.setdefault(name, []).append((override.valid_from, override.card()))

    def quote(
        self, provider: str | None, model: str | None, at: datetime, usage: Usage, service_tier: str | None = None
    ) -> Quote | None:
        """Return the price of a call at ``at`` (the span's start), None if its model or its usage is unknown.

        ``provider`` is canonical. Only names and day are looked up, in memory: about two microseconds.
        """
        if model is None or (usage.prompt is None and usage.completion is None):
            return None
        source = "override"
        card = self._override(provider, model, at) if self._overrides else None
        if card is None:
            source = "computed"
            card = self._catalog.card(provider, model, at, service_tier)
            if card is None:
                return None
        return _quote(card, usage, source)

    def _override(self, provider: str | None, model: str, at: datetime) -> RateCard | None:
        cards = self._overrides.get((provider or "", model.lower()))
        if cards is None:
            return None
        position = bisect_right(cards, at, key=lambda item: item[0])
        return cards[position - 1][1] if position else None


def _quote(card: RateCard, usage: Usage, source: str) -> Quote | None:
    prompt_tokens = usage.prompt or 0
    completion_tokens = usage.completion or 0
    band = card.band(prompt_tokens)
    if not (usage.cached or usage.cache_write):
        prompt, savings = band.prompt * prompt_tokens, _ZERO
    else:
        prompt, savings = _prompt_with_cache(band, usage, prompt_tokens)
    completion = band.completion * completion_tokens
    if usage.reasoning and band.reasoning != band.completion:
        completion += (band.reasoning - band.completion) * min(usage.reasoning, completion_tokens)
    total = prompt + completion + card.per_request
    if total >= MAX_USD:  # counts far beyond any real call: no price rather than one that cannot be stored
        return None
    savings = round_usd(savings) if savings else _ZERO
    return Quote(round_usd(prompt), round_usd(completion), round_usd(total), savings, source, card.version)


def _prompt_with_cache(band: RateBand, usage: Usage, prompt_tokens: int) -> tuple[Decimal, Decimal]:
    """Return the price of the input, and the savings through the cache. Parts never add up to more than the input."""
    read = min(usage.cached or 0, prompt_tokens)
    write = min(usage.cache_write or 0, prompt_tokens - read)
    write_1h = min(usage.cache_write_1h or 0, write)
    price = (
        band.prompt * (prompt_tokens - read - write)
        + band.cache_read * read
        + band.cache_write * (write - write_1h)
        + band.cache_write_1h * write_1h
    )
    return price, band.prompt * prompt_tokens - price
