"""The cost of a model call: reported, overridden by the operator, or computed from the catalogue.

The order is: a cost that the span reports wins; then an override of the operator; then the catalogue's price of the
span's own day. The source and the version are stored in the row, so a later price change can be told from a mistake,
and ``reprice`` can redo it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from server.ingest.dialects.canonical_names import canonical_provider
from server.ingest.messages.coercion import MAX_USD, round_usd
from server.ingest.pricing.model_names import NAMES
from server.ingest.pricing.price_catalog import MEDIA, UNITS, PriceCatalog, RateBand, RateCard, price_catalog
from server.ingest.pricing.project_prices import ProjectPrices

_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)
_NO_DETAILS: Mapping[str, int] = {}


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
    details: Mapping[str, int] = _NO_DETAILS
    """Parts by medium (``input_audio``, ``cached_audio``, ``output_image``, …) and what is billed beside tokens
    (``price_catalog.UNITS``)."""


class PriceLine(NamedTuple):
    """One line of a computed price: ``quantity`` times ``rate`` US dollars."""

    name: str
    quantity: int
    rate: Decimal

    @property
    def usd(self) -> Decimal:
        """The amount, not rounded."""
        return self.rate * self.quantity


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
    lines: tuple[PriceLine, ...] = ()
    """Parts of the price; only if they were requested."""


class PriceBook:
    """The prices of one project: its overrides over the shared catalogue. Cheap to create, safe to share."""

    def __init__(
        self,
        overrides: Iterable[PriceOverride] = (),
        catalog: PriceCatalog | None = None,
        project: ProjectPrices | None = None,
    ) -> None:
        self._catalog = catalog or price_catalog()
        self._project = project or ProjectPrices()
        self._overrides: dict[tuple[str, str], list[tuple[datetime, RateCard]]] = {}
        for override in sorted(overrides, key=lambda item: item.valid_from):
            name = (canonical_provider(override.provider), override.model.strip().lower())
            self._overrides.setdefault(name, []).append((override.valid_from, override.card()))

    def quote(
        self,
        provider: str | None,
        model: str | None,
        at: datetime,
        usage: Usage,
        service_tier: str | None = None,
        *,
        itemised: bool = False,
    ) -> Quote | None:
        """Return the price of a call at ``at`` (the span's start), None if its model or its usage is unknown.

        ``provider`` is canonical. Only names and day are looked up, in memory: about two microseconds.
        """
        if model is None or (usage.prompt is None and usage.completion is None and not usage.details):
            return None
        source, card = self._card(provider, model, at, service_tier)
        return None if card is None else _quote(card, usage, source, itemised=itemised)

    def dollars(self, amount: Decimal, currency: str) -> Decimal | None:
        """Return ``amount`` of ``currency`` in US dollars, None without a rate of the project."""
        rate = self._project.currencies.get(currency.upper())
        return None if rate is None else amount * rate

    def why_unpriced(self, provider: str | None, model: str | None, at: datetime) -> str:
        """Return a code of :data:`UNPRICED_REASONS` for calls with tokens that have no price."""
        if model is None:
            return "no_model"
        _, card = self._card(provider, model, at, None)
        if card is not None:
            return "priced_since" if card.bands[0].prompt or card.bands[0].completion else "no_units"
        return "self_hosted" if provider in NAMES["self_hosting"] else "unknown_model"

    def _card(
        self, provider: str | None, model: str, at: datetime, service_tier: str | None
    ) -> tuple[str, RateCard | None]:
        card = self._override(provider, model, at) if self._overrides else None
        if card is not None:
            return "override", card
        if self._project.deployments:
            behind = self._project.deployments.get(model.lower())
            if behind is not None:
                provider, model = behind[0] or provider, behind[1]
        return "computed", self._catalog.card(provider, model, at, tier_name(service_tier))

    def _override(self, provider: str | None, model: str, at: datetime) -> RateCard | None:
        cards = self._overrides.get((provider or "", model.lower()))
        if cards is None:
            return None
        position = bisect_right(cards, at, key=lambda item: item[0])
        return cards[position - 1][1] if position else None


UNPRICED_REASONS: Final[Mapping[str, str]] = {
    "no_model": "The spans name no model.",
    "unknown_model": "The price list has no model of this name: set an override, or say what is behind a deployment.",
    "self_hosted": "The provider serves models on your own machines, which no list has a price of: set an override.",
    "no_units": "The model is billed by something other than tokens, which the spans do not report.",
    "priced_since": "There is a price by now: reprice these calls.",
}
"""Why a model has no price: code and sentence."""


def tier_name(service_tier: str | None) -> str | None:
    """Return the service tier as the table of tiers has it: vendors write it in any letter case."""
    return service_tier.strip().lower() if service_tier is not None else None


def _quote(card: RateCard, usage: Usage, source: str, *, itemised: bool = False) -> Quote | None:
    prompt_tokens = usage.prompt or 0
    completion_tokens = usage.completion or 0
    band = card.band(prompt_tokens)
    lines: tuple[PriceLine, ...] = ()
    if not (usage.cached or usage.cache_write or usage.reasoning or usage.details or itemised):
        prompt, completion, other, savings = (
            band.prompt * prompt_tokens,
            band.completion * completion_tokens,
            _ZERO,
            _ZERO,
        )
    elif not (usage.details or itemised):
        prompt, savings = _prompt_with_cache(band, usage, prompt_tokens)
        completion, other = band.completion * completion_tokens, _ZERO
        if usage.reasoning and band.reasoning != band.completion:
            completion += (band.reasoning - band.completion) * min(usage.reasoning, completion_tokens)
    else:
        prompt_lines = list(_prompt_lines(band, usage, prompt_tokens))
        completion_lines = list(_completion_lines(band, usage, completion_tokens))
        unit_lines = list(_unit_lines(card, usage))
        prompt, completion, other = (
            sum((line.usd for line in part), _ZERO) for part in (prompt_lines, completion_lines, unit_lines)
        )
        savings = _savings(band, prompt_lines)
        if itemised:
            fee = [PriceLine("request", 1, card.per_request)] if card.per_request else []
            lines = tuple(line for line in (*prompt_lines, *completion_lines, *unit_lines, *fee) if line.quantity)
    total = prompt + completion + other + card.per_request
    if total >= MAX_USD:  # counts far beyond any real call: no price rather than one that cannot be stored
        return None
    savings = round_usd(savings) if savings else _ZERO
    return Quote(round_usd(prompt), round_usd(completion), round_usd(total), savings, source, card.version, lines)


def _prompt_with_cache(band: RateBand, usage: Usage, prompt_tokens: int) -> tuple[Decimal, Decimal]:
    """Return the price of the input, and the savings through the cache: the sum of the lines, in half of the time."""
    read = min(usage.cached or 0, prompt_tokens)
    write = min(usage.cache_write or 0, prompt_tokens - read)
    write_1h = min(usage.cache_write_1h or 0, write)
    price = band.prompt * (prompt_tokens - read - write) + band.cache_read * read
    if write:
        price += band.cache_write * (write - write_1h) + band.cache_write_1h * write_1h
    return price, band.prompt * prompt_tokens - price


def _prompt_lines(band: RateBand, usage: Usage, prompt_tokens: int) -> Iterator[PriceLine]:
    """Yield the price of the input. Parts never add up to more than the input."""
    read = min(usage.cached or 0, prompt_tokens)
    write = min(usage.cache_write or 0, prompt_tokens - read)
    write_1h = min(usage.cache_write_1h or 0, write)
    plain = prompt_tokens - read - write
    for medium in MEDIA if usage.details else ():
        rates = band.media.get(medium)
        if rates is None:
            continue
        cached = min(usage.details.get(f"cached_{medium}", 0), read)
        fresh = min(max(usage.details.get(f"input_{medium}", 0) - cached, 0), plain)
        read, plain = read - cached, plain - fresh
        yield PriceLine(f"input {medium}", fresh, rates.prompt)
        yield PriceLine(f"cache read {medium}", cached, rates.cache_read)
    yield PriceLine("input", plain, band.prompt)
    yield PriceLine("cache read", read, band.cache_read)
    yield PriceLine("cache write", write - write_1h, band.cache_write)
    yield PriceLine("cache write 1 h", write_1h, band.cache_write_1h)


def _completion_lines(band: RateBand, usage: Usage, completion_tokens: int) -> Iterator[PriceLine]:
    plain = completion_tokens
    for medium in MEDIA if usage.details else ():
        rates = band.media.get(medium)
        count = min(usage.details.get(f"output_{medium}", 0), plain) if rates is not None else 0
        if rates is not None:
            plain -= count
            yield PriceLine(f"output {medium}", count, rates.completion)
    reasoning = min(usage.reasoning or 0, plain)
    yield PriceLine("output", plain - reasoning, band.completion)
    yield PriceLine("reasoning", reasoning, band.reasoning)


def _unit_lines(card: RateCard, usage: Usage) -> Iterator[PriceLine]:
    for unit in UNITS if usage.details else ():
        rate, count = card.per_unit.get(unit), usage.details.get(unit)
        if rate is not None and count:
            yield PriceLine(unit.replace("_", " "), count, rate)


def _savings(band: RateBand, lines: Iterable[PriceLine]) -> Decimal:
    """Return the savings through the cache, against the same input without it."""
    saved = _ZERO
    for line in lines:
        if line.name.startswith("cache"):
            rates = band.media.get(line.name.rpartition(" ")[2])
            saved += (band.prompt if rates is None else rates.prompt) * line.quantity - line.usd
    return saved
