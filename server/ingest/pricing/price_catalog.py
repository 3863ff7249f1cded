"""The built-in price list: genai-prices, behind our names, as rate cards that cost microseconds.

The package needs 125 µs per call to match names and compute a price. A rate card is the result of that work for one
model on one day, and is cached. The package never accesses the network: prices are those of the installed version,
which every priced row names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from server.ingest.pricing.model_names import MAKERS, NAMES, catalogue_names

_MILLION, _THOUSAND = Decimal(1_000_000), Decimal(1_000)
_REMEMBERED_CARDS = 20_000


MEDIA: Final = ("audio", "image", "video")
"""Media with rates of their own; text is the rest."""
UNITS: Final[Mapping[str, str]] = {
    "web_searches": "web_searches_kcount",
    "storage_searches": "storage_searches_kcount",
    "code_executions": "code_executions_kcount",
    "rerank_searches": "rerank_searches_kcount",
    "audio_seconds": "audio_hours",
    "input_audio_seconds": "input_audio_hours",
    "input_characters": "input_mchars",
    "document_pages": "input_document_kpages",
}
"""The things that are billed beside tokens, and the catalogue's names of their prices."""
_UNITS_A_PRICE: Final = {"kcount": 1000, "kpages": 1000, "hours": 3600, "mchars": 1_000_000}


@dataclass(frozen=True, slots=True)
class MediumRates:
    """Rates of one medium, in US dollars a token."""

    prompt: Decimal
    completion: Decimal
    cache_read: Decimal


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
    media: Mapping[str, MediumRates] = field(default_factory=dict)
    """By name of :data:`MEDIA`; a medium that is not here costs what text costs."""


@dataclass(frozen=True, slots=True)
class RateCard:
    """Prices of a model: bands from the lowest up, and a fee for each request."""

    bands: tuple[RateBand, ...]
    per_request: Decimal
    version: str
    per_unit: Mapping[str, Decimal] = field(default_factory=dict)
    """US dollars for one of :data:`UNITS`."""

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
                self._hourly.clear()
            card = self._cards[key] = self._look_up(provider, model, at, service_tier)
            return card

    def _look_up(self, provider: str | None, model: str, at: datetime, service_tier: str | None) -> RateCard | None:
        from genai_prices.data_snapshot import get_snapshot
        from genai_prices.types import TimeOfDateConstraint

        for provider_name, model_name in catalogue_names(provider, model):
            found = _find(get_snapshot(), provider_name, model_name)
            if found is None:
                continue
            vendor, info = found
            prices = info.prices if isinstance(info.prices, list) else []
            if any(isinstance(price.constraint, TimeOfDateConstraint) for price in prices):
                self._hourly.add((provider, model))
            context = NAMES["service_tiers"].get(service_tier)
            label = f"genai-prices {catalog_version()} {vendor.id}/{info.id}"
            return _card(info.get_prices(at, context), f"{label} {service_tier}" if context else label)
        return None


def _find(snapshot: Any, provider: str | None, model: str) -> tuple[Any, Any] | None:
    """Return the vendor and the model; without a provider also a model that exactly one maker lists by this very
    name.
    """
    try:
        found: tuple[Any, Any] = snapshot.find_provider_model(model, None, provider, None)
    except LookupError:
        if provider is not None:
            return None
        lists = [
            (vendor, info)
            for vendor in snapshot.providers
            if vendor.id in MAKERS
            for info in vendor.models
            if info.id == model.lower()
        ]
        return lists[0] if len(lists) == 1 else None
    return found


@cache
def catalog_version() -> str:
    """Return the version of the installed price list."""
    return version("genai-prices")


def _card(price: Any, label: str) -> RateCard | None:
    """Return a card from the package's price; one of zeros for a model that is free. None where it is billed in a way
    that no span tells of.
    """
    per_request = (_plain(price.requests_kcount) or Decimal(0)) / _THOUSAND
    per_unit = {}
    for unit, key in UNITS.items():
        rate = _plain(getattr(price, key))
        if rate is not None:
            per_unit[unit] = rate / _UNITS_A_PRICE[key.rpartition("_")[2]]
    is_free = all(value is None for value in vars(price).values())
    if price.input_mtok is None and price.output_mtok is None and not (per_request or per_unit or is_free):
        return None
    starts = sorted({tier.start for value in vars(price).values() for tier in getattr(value, "tiers", ())})
    bands = tuple(_band(price, start) for start in (-1, *starts))
    return RateCard(bands, per_request, label, per_unit)


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
    cache_read = prompt if cache_read is None else cache_read
    cache_write = prompt if cache_write is None else cache_write
    return RateBand(
        above,
        prompt,
        completion,
        cache_read,
        cache_write,
        cache_write if cache_write_1h is None else cache_write_1h,
        completion if reasoning is None else reasoning,
        {name: rates for name in MEDIA if (rates := _medium(price, name, above, prompt, completion, cache_read))},
    )


def _medium(
    price: Any, name: str, above: int, prompt: Decimal, completion: Decimal, cache_read: Decimal
) -> MediumRates | None:
    keys = (f"input_{name}_mtok", f"output_{name}_mtok", f"cache_{name}_read_mtok")
    own = [_rate(getattr(price, key), above) for key in keys]
    if all(rate is None for rate in own):
        return None
    defaults = (prompt, completion, cache_read)
    return MediumRates(*(default if rate is None else rate for rate, default in zip(own, defaults, strict=True)))


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
