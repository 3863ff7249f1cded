"""The cost that a span reports itself: in dollars, in another currency, or as buckets to be added up."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.messages.coercion import decode_json, round_usd, to_usd
from server.ingest.pricing.price_book import PriceBook

_COLUMNS: Final = ("prompt_cost_usd", "completion_cost_usd", "total_cost_usd")
_BUCKETS: Final[dict[str, str]] = read_table("cost_buckets.json")["prefixes"]
"""By dialect: the prefix of attributes that are each the cost of one bucket."""

_MEMBERS: Final = {
    "total_cost_usd": ("total", "amount", "total_cost", "total_usd", "usd", "value"),
    "prompt_cost_usd": ("input", "prompt", "input_cost", "prompt_cost"),
    "completion_cost_usd": ("output", "completion", "output_cost", "completion_cost"),
    "cost_currency": ("currency",),
}
"""Names inside an object that is a cost, by slot."""
_SIGNS: Final = {"$": "USD", "US$": "USD", "€": "EUR", "£": "GBP"}


@dataclass(slots=True)
class ReportedCost:
    """Reported amounts in US dollars; ``total`` is None where they could not be told."""

    prompt: Decimal | None
    completion: Decimal | None
    total: Decimal | None
    note: str | None = None
    """The rate by which it was converted; None for dollars."""
    details: dict[str, Any] = field(default_factory=dict)
    """Amounts of another currency that are kept."""


def read_reported_cost(
    fields: SpanFields,
    dialect: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    pricing: PriceBook | None,
) -> ReportedCost | None:
    """Take the cost slots; None where the span tells nothing of its cost."""
    found = fields.found
    if dialect not in _BUCKETS and found.keys().isdisjoint(_COLUMNS):
        return None
    if any(candidate[2].__class__ in (str, dict) for candidate in found.get("total_cost_usd", ())):
        _open_objects(fields)
    amounts = {column: fields.take(column, column, to_usd) if column in found else None for column in _COLUMNS}
    prompt, completion, total = (amounts[column] for column in _COLUMNS)
    if dialect in _BUCKETS and total is None:
        prompt, completion, total = _sum_of_buckets(fields, _BUCKETS[dialect], prompt, completion)
    elif total is None:
        total = _sum_of_parts(fields, prompt, completion, prompt_tokens, completion_tokens)
    if prompt is None and completion is None and total is None:
        return None
    currency = fields.take_text("cost_currency", "cost_currency", 8)
    if currency is None and "." not in fields.sources.get("total_cost_usd", "."):
        currency = fields.take_text("cost_currency", "bare_currency", 8)
    code = "USD" if currency is None else _SIGNS.get(currency, currency.upper())
    if code == "USD":
        return ReportedCost(prompt, completion, total)
    return _converted(fields, code, prompt, completion, total, pricing)


def _open_objects(fields: SpanFields) -> None:
    """Put the members of a cost that is an object, or JSON of one, in its place."""
    kept = []
    for rank, key, value in fields.found.pop("total_cost_usd"):
        members = decode_json(value) if isinstance(value, str) and value.startswith("{") else value
        if not isinstance(members, dict):
            kept.append((rank, key, value))
            continue
        for slot, names in _MEMBERS.items():
            name = next((name for name in names if members.get(name) is not None), None)
            if name is not None:
                fields.add(slot, rank, f"{key} {name}", members[name])
        fields.keep((rank, key, value))
    if kept:
        fields.found.setdefault("total_cost_usd", []).extend(kept)


def _sum_of_parts(
    fields: SpanFields,
    prompt: Decimal | None,
    completion: Decimal | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
) -> Decimal | None:
    """Input and output together; one of them alone where the other has no tokens."""
    is_whole = (prompt is not None or not prompt_tokens) and (completion is not None or not completion_tokens)
    if (prompt is None and completion is None) or not is_whole:
        return None
    fields.sources["total_cost_usd"] = "prompt_cost_usd + completion_cost_usd"
    return round_usd((prompt or Decimal(0)) + (completion or Decimal(0)))


def _sum_of_buckets(
    fields: SpanFields, prefix: str, prompt: Decimal | None, completion: Decimal | None
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    """Return all buckets: those of the input, those of the output, and with others the total."""
    sums = {"prompt": prompt, "completion": completion, "other": None}
    for key, value in fields.rest.items():
        if key.startswith(prefix):
            amount, reason = to_usd(value)
            if reason is None:
                name = key.removeprefix(prefix)
                is_input = name.startswith(("input", "cache", "prompt"))
                side = "prompt" if is_input else "completion" if name.startswith(("output", "completion")) else "other"
                sums[side] = round_usd((sums[side] or Decimal(0)) + amount)
    known = [amount for amount in sums.values() if amount is not None]
    if not known:
        return None, None, None
    fields.sources["total_cost_usd"] = f"sum of {prefix}*"
    return sums["prompt"], sums["completion"], round_usd(sum(known, Decimal(0)))


def _converted(
    fields: SpanFields,
    currency: str,
    prompt: Decimal | None,
    completion: Decimal | None,
    total: Decimal | None,
    pricing: PriceBook | None,
) -> ReportedCost:
    """Return dollars by the rate of the project; without one the amount is kept, and is not a cost."""
    details = {
        "cost_currency": currency,
        "cost_amount": float(total if total is not None else (prompt or completion or 0)),
    }
    rate = pricing.dollars(Decimal(1), currency) if pricing is not None else None
    if rate is None:
        fields.drop("total_cost_usd", "no_currency_rate")
        return ReportedCost(None, None, None, details=details)

    def dollars(amount: Decimal | None) -> Decimal | None:
        return None if amount is None else round_usd(amount * rate)

    return ReportedCost(dollars(prompt), dollars(completion), dollars(total), f"{currency} at {rate} USD", details)
