"""A project's own facts about prices: the model behind a deployment, and the rates of its currencies.

{"deployments": {"prod-chat": {"provider": "azure", "model": "gpt-4o"}}, "currencies": {"EUR": 1.08}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from server.ingest.dialects.canonical_names import canonical_provider

MOST_ENTRIES: Final = 1_000
_LONGEST: Final = 200
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_MOST_DOLLARS: Final = 1_000_000
_MEMBERS: Final = ("deployments", "currencies")


class InvalidPrices(Exception):
    """The settings cannot be used; ``pointer`` names the member, the message what is wrong with it."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPrices:
    """The settings in the form that :class:`PriceBook` reads."""

    deployments: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)
    """Name of a deployment, in lower case, to the canonical provider (None: that of the span) and the model."""
    currencies: Mapping[str, Decimal] = field(default_factory=dict)
    """US dollars for one unit of a currency, by its code in capitals."""


def parse_project_prices(document: Any) -> ProjectPrices:
    """Read the settings. Raises :class:`InvalidPrices`."""
    if not isinstance(document, dict):
        raise InvalidPrices("", "is not an object")
    for name in document:
        if name not in _MEMBERS:
            raise InvalidPrices(f"/{name[:64]}", f"is not known here; expected {', '.join(_MEMBERS)}")
    return ProjectPrices(
        deployments={
            name.strip().lower(): _model_behind(f"/deployments/{name[:64]}", value)
            for name, value in _entries(document, "deployments").items()
        },
        currencies={
            name: _dollars(f"/currencies/{name[:64]}", name, value)
            for name, value in _entries(document, "currencies").items()
        },
    )


def _entries(document: dict[str, Any], name: str) -> dict[str, Any]:
    entries = document.get(name, {})
    if not isinstance(entries, dict):
        raise InvalidPrices(f"/{name}", "is not an object")
    if len(entries) > MOST_ENTRIES:
        raise InvalidPrices(f"/{name}", f"has more than {MOST_ENTRIES} entries")
    return entries


def _model_behind(pointer: str, value: Any) -> tuple[str | None, str]:
    if not isinstance(value, dict) or not value.keys() <= {"provider", "model"}:
        raise InvalidPrices(pointer, "is not an object of model and, optionally, provider")
    model, provider = value.get("model"), value.get("provider")
    for name, text in (("model", model), ("provider", provider)):
        is_missing = text is None and name == "provider"
        if not is_missing and not (isinstance(text, str) and 0 < len(text.strip()) <= _LONGEST):
            raise InvalidPrices(f"{pointer}/{name}", f"is not a text of 1 to {_LONGEST} characters")
    return (canonical_provider(provider) if provider else None), str(model).strip()


def _dollars(pointer: str, name: str, value: Any) -> Decimal:
    if _CURRENCY.fullmatch(name) is None:
        raise InvalidPrices(pointer, "is not the code of a currency: three capital letters")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST_DOLLARS:
        raise InvalidPrices(pointer, f"is not a number of US dollars above 0 and below {_MOST_DOLLARS}")
    return Decimal(str(value))
