"""The built-in price list: genai-prices, behind our names, as rate cards that cost microseconds.

The package needs 125 µs per call to match names and compute a price. A rate card is the result of that work for one
model on one day, and is cached. The package never accesses the network: prices are those of the installed version,
which every priced row names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any

from server.ingest.dialects.attribute_table import read_table
from server.ingest.dialects.canonical_names import KNOWN_PROVIDERS, canonical_provider

_NAMES = read_table("price_names.json")
_MILLION, _THOUSAND = Decimal(1_000_000), Decimal(1_000)
_REMEMBERED_CARDS = 20_000


@dataclass(frozen=True, slots=True)
class RateBand:
    """Rates for requests with more than ``above`` input tokens, in US dollars per token."""

    above: int
    prompt: Decimal
    completion: Decimal
    cache_read: Decimal
    cache_write: Decimal
    cache_write_1h: Decimal
    reasoning: Decimal


@dataclass(frozen=True, slots=True)
class RateCard:
    """Prices of a model: bands from the lowest up, and a fee for each request."""

    bands: tuple[RateBand, ...]
    per_request: Decimal
    version: str

    def band(self, prompt_tokens: int) -> RateBand:
        """Return the band of a request. Crossing a threshold prices all its tokens, as the vendors do."""
        for band in reversed(self.bands):
            if prompt_tokens > band.above:
                return band
        return self.bands[0]


class PriceCatalog:
    """Rate cards by provider, model, day and service tier. Safe to share between threads: lookups are idempotent."""

    def __init__(self) -> None:
        self._cards: dict[tuple[object, ...], RateCard | None] = {}
        self._hourly: set[tuple[str | None, str]] = set()

    def load(self) -> None:
        """Read the price list now: it takes a good part of a second, which the first request would wait for."""
        self._look_up(None, "gpt-4o", datetime.now(UTC), None)

    def card(self, provider: str | None, model: str, at: datetime, service_tier: str | None = None) -> RateCard | None:
        """Return the card in force at ``at``, None for a model that the catalogue does not have.

        ``provider`` is a canonical name; ``service_tier`` one of ``price_names.json``, others count as the standard
        tier.
        """
        name = (provider, model)
        day = at.toordinal() if at.tzinfo is UTC else at.astimezone(UTC).toordinal()
        key: tuple[object, ...] = (provider, model, service_tier, day)
        if name in self._hourly:  # some vendors charge by the time of day
            key = (*key, at.hour, at.minute)
        try:
            return self._cards[key]
        except KeyError:
            if len(self._cards) >= _REMEMBERED_CARDS:
                self._cards.clear()
            card = self._cards[key] = self._look_up(provider, model, at, service_tier)
            return card

    def _look_up(self, provider: str | None, model: str, at: datetime, service_tier: str | None) -> RateCard | None:
        from genai_prices.data_snapshot import get_snapshot
        from genai_prices.types import TimeOfDateConstraint

        for provider_name, model_name in _names(provider, model):
            try:
                vendor, info = get_snapshot().find_provider_model(model_name, None, provider_name, None)
            except LookupError:
                continue
            prices = info.prices if isinstance(info.prices, list) else []
            if any(isinstance(price.constraint, TimeOfDateConstraint) for price in prices):
                self._hourly.add((provider, model))
            context = _NAMES["service_tiers"].get(service_tier)
            label = f"genai-prices {catalog_version()} {vendor.id}/{info.id}"
            return _card(info.get_prices(at, context), f"{label} {service_tier}" if context else label)
        return None


@cache
def catalog_version() -> str:
    """Return the version of the installed price list."""
    return version("genai-prices")


def _names(provider: str | None, model: str) -> Iterator[tuple[str | None, str]]:
    """Yield the names to try, in order: as reported, then without the prefixes of routers and clouds."""
    model = model.strip()
    for head in _NAMES["model_heads"]:
        at = model.find(head)
        if at >= 0:
            model = model[at + len(head) :]
    head, slash, rest = model.partition("/")
    head_provider = canonical_provider(head) if slash else None
    if provider is not None and provider not in _NAMES["by_model_only"]:
        vendor = _NAMES["providers"].get(provider, provider)
        yield vendor, model
        if head_provider == provider:
            yield vendor, rest
    elif head_provider is None:
        yield None, model
    if head_provider in KNOWN_PROVIDERS and head_provider != provider:
        yield _NAMES["providers"].get(head_provider, head_provider), rest


def _card(price: Any, label: str) -> RateCard | None:
    """Return a card from the package's price, None if the model is not priced by tokens or requests."""
    per_request = (_plain(price.requests_kcount) or Decimal(0)) / _THOUSAND
    if price.input_mtok is None and price.output_mtok is None and not per_request:
        return None
    starts = sorted({tier.start for value in vars(price).values() for tier in getattr(value, "tiers", ())})
    bands = tuple(_band(price, start) for start in (-1, *starts))
    return RateCard(bands, per_request, label)


def _band(price: Any, above: int) -> RateBand:
    """Return the rates above a threshold. A part without a price of its own costs as much as the whole it belongs
    to.
    """
    prompt = _rate(price.input_mtok, above) or Decimal(0)
    completion = _rate(price.output_mtok, above) or Decimal(0)
    cache_read = _rate(price.cache_read_mtok, above)
    cache_write = _rate(price.cache_write_mtok, above)
    cache_write_1h = _rate(price.cache_write_1h_mtok, above)
    reasoning = _rate(price.output_reasoning_mtok, above)
    cache_write = prompt if cache_write is None else cache_write
    return RateBand(
        above,
        prompt,
        completion,
        prompt if cache_read is None else cache_read,
        cache_write,
        cache_write if cache_write_1h is None else cache_write_1h,
        completion if reasoning is None else reasoning,
    )


def _plain(value: Any) -> Decimal | None:
    base: Decimal | None = getattr(value, "base", value)
    return base


def _rate(value: Any, above: int) -> Decimal | None:
    """Return US dollars per token: the last tier at or below ``above``, else the base price."""
    if value is None:
        return None
    rate = _plain(value)
    for tier in getattr(value, "tiers", ()):
        if tier.start <= above:
            rate = tier.price
    return None if rate is None else rate / _MILLION


@cache
def price_catalog() -> PriceCatalog:
    """Return the catalogue of this process."""
    return PriceCatalog()
