"""The metric engine's answers in plain Python: no SQL, no rollups, one loop over all spans."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from server.http.services import Services
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.pricing.price_book import PriceBook, PriceOverride
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.reprice import RepriceQuestion, reprice
from server.ingest.writing.trace_deletion import delete_trace
from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.time_range import TimeRange
from tests.span_factory import make_span, store

LABELS: dict[str, Callable[[SpanRecord], Sequence[str]]] = {
    "model": lambda span: [span.model or ""],
    "provider": lambda span: [span.provider or ""],
    "status": lambda span: [span.status_code],
    "environment": lambda span: [span.environment],
    "tool": lambda span: [span.tool_name or ""],
    "finish_reason": lambda span: [span.finish_reason or ""],
    "user": lambda span: [span.user_id or ""],
    "session": lambda span: [span.session_id or ""],
    "tag": lambda span: span.tags or [""],
    "attribute.tier": lambda span: [str(span.attributes.get("tier", ""))],
}


def microseconds(milliseconds: float) -> int:
    """Return the whole microseconds that are summed."""
    return round(milliseconds * 1000)


def percentile(values: Sequence[float], fraction: float) -> float | None:
    """Return percentile_disc of PostgreSQL: the smallest value whose rank is at least fraction × n."""
    ordered = sorted(values)
    return ordered[max(math.ceil(round(fraction * len(ordered), 9)), 1) - 1] if ordered else None


def expected(spans: Sequence[SpanRecord]) -> dict[str, Any]:
    """Return every metric of the property test over ``spans``; None where nothing was counted."""
    calls = [span for span in spans if span.is_generation]
    failed = [call for call in calls if call.status_code == "ERROR"]
    cost = sum((call.total_cost_usd or Decimal(0) for call in calls), Decimal(0))
    tokens = sum(call.total_tokens or 0 for call in calls)
    durations = [call.duration_ms for call in calls]
    fast = [call for call in calls if (call.completion_tokens or 0) > 0 and call.duration_ms >= 0.001]
    first = [call.ttft_ms for call in calls if call.ttft_ms is not None]
    return {
        "calls": len(calls),
        "spans": len(spans),
        "traces": sum(span.parent_span_id is None for span in spans),
        "errors": len(failed),
        "span_errors": sum(span.status_code == "ERROR" for span in spans),
        "cost": cost,
        "error_cost": sum((call.total_cost_usd or Decimal(0) for call in failed), Decimal(0)),
        "total_tokens_sum": tokens,
        "completion_tokens_sum": sum(call.completion_tokens or 0 for call in calls),
        "duration_sum": sum(map(microseconds, durations)) / 1000,
        "error_rate": len(failed) / len(calls) if calls else None,
        "cost_per_1k_tokens": cost * 1000 / tokens if tokens else None,
        "duration_avg": sum(map(microseconds, durations)) / 1000 / len(calls) if calls else None,
        "output_tokens_per_second_avg": sum(call.completion_tokens or 0 for call in fast)
        * 1e6
        / sum(microseconds(call.duration_ms) for call in fast)
        if fast
        else None,
        "duration_p50": percentile(durations, 0.5),
        "duration_p95": percentile(durations, 0.95),
        "duration_max": percentile(durations, 1),
        "time_to_first_token_p90": percentile(first, 0.9),
        "span_duration_p99": percentile([span.duration_ms for span in spans], 0.99),
        "users": len({span.user_id for span in spans if span.user_id}),
        "sessions": len({span.session_id for span in spans if span.session_id}),
    }


MODELS = ("small", "large", "huge")
PROVIDERS = ("openai", "anthropic")
APPROXIMATE = {"duration_p50", "duration_p95", "duration_max", "time_to_first_token_p90", "span_duration_p99"}
CALLS_ONLY = {
    "calls", "errors", "cost", "error_cost", "total_tokens_sum", "completion_tokens_sum", "duration_sum", "error_rate",
    "cost_per_1k_tokens", "duration_avg", "output_tokens_per_second_avg", "duration_p50", "duration_p95",
    "duration_max", "time_to_first_token_p90",
}  # fmt: skip


@dataclass
class Traffic:
    """Random changes of one project, done in the database and remembered here."""

    services: Services
    project: str
    random: random.Random
    start: datetime
    length: timedelta
    spans: dict[tuple[str, str], SpanRecord] = field(default_factory=dict)

    def _new(self) -> SpanRecord:
        pick = self.random.choice
        is_call = self.random.random() < 0.7
        moment = self.start + timedelta(microseconds=self.random.randrange(int(self.length.total_seconds() * 1e6)))
        return make_span(
            ts=moment,
            trace_id=f"trace-{self.random.randrange(60)}",
            parent_span_id=pick([None, "root"]),
            is_generation=is_call,
            provider=pick(PROVIDERS) if is_call else None,
            model=pick(MODELS) if is_call else None,
            tool_name=None if is_call else pick(["search", "shell"]),
            operation_type="chat" if is_call else "execute_tool",
            environment=pick(["production", "staging"]),
            finish_reason=pick(["stop", "length", None]),
            **self._amounts(),
        )

    def _amounts(self) -> dict[str, Any]:
        pick = self.random.choice
        output = pick([None, 0, self.random.randrange(1, 5000)])
        cost = pick([None, Decimal(self.random.randrange(10**9)).scaleb(-10)])
        return {
            "status_code": pick(["OK", "OK", "ERROR", "UNSET"]),
            "duration_ms": pick([0.0, 0.0004, self.random.lognormvariate(6, 2)]),
            "ttft_ms": pick([None, self.random.lognormvariate(4, 1)]),
            "completion_tokens": output,
            "total_tokens": None if output is None else output + self.random.randrange(1000),
            "prompt_tokens": pick([None, self.random.randrange(1000)]),
            "total_cost_usd": cost,
            "cost_source": "none" if cost is None else pick(["reported", "computed"]),
            "user_id": pick([None, *(f"user-{number}" for number in range(8))]),
            "session_id": pick([None, *(f"session-{number}" for number in range(20))]),
            "tags": self.random.sample(["beta", "eu", "us"], self.random.randrange(3)),
            "attributes": pick([{}, {"tier": "gold"}, {"tier": "free"}]),
        }

    async def step(self) -> None:
        """Apply one batch: new spans, late and replayed ones, newer versions, new prices, or a deletion."""
        kind = self.random.choice(["new", "new", "mixed", "newer", "reprice", "delete"])
        known = list(self.spans.values())
        if kind == "new" or not known:
            await self._store([self._new() for _ in range(self.random.randrange(1, 40))])
        elif kind == "mixed":
            replayed = self.random.sample(known, min(len(known), 10))
            await self._store([*replayed, *(self._new() for _ in range(5))])
        elif kind == "newer":
            chosen = self.random.sample(known, min(len(known), 15))
            changed = [replace(span, **self._amounts()) for span in chosen]
            # Of two versions of one span the later end wins: these end later.
            await self._store([replace(new, duration_ms=old.duration_ms + 1 + self.random.random() * 900)
                               for new, old in zip(changed, chosen, strict=True)])  # fmt: skip
        elif kind == "reprice":
            await self.reprice()
        else:
            await self.delete(self.random.choice(known).trace_id)

    async def _store(self, records: list[SpanRecord]) -> None:
        await store(self.services, self.project, records)
        for record in records:
            known = self.spans.get((record.trace_id, record.span_id))
            if known is None or self._version(record) > self._version(known):
                self.spans[record.trace_id, record.span_id] = record

    def _version(self, record: SpanRecord) -> int:
        return prepare_span(self.project, record).version

    async def delete(self, trace_id: str) -> None:
        """Delete one trace, as ``DELETE /api/v1/traces`` does."""
        await delete_trace(self.services.writes, self.services.freshness, self.project, trace_id)
        for key in [key for key in self.spans if key[0] == trace_id]:
            del self.spans[key]

    async def reprice(self) -> None:
        """Price some stored calls again, as ``POST /api/v1/costs/reprice`` does: some models have a price."""
        names = [(provider, model) for provider in PROVIDERS for model in MODELS]
        # Whole dollars a million tokens, so that plain arithmetic is exact.
        rates = {name: (self.random.randrange(50), self.random.randrange(90)) for name in self.random.sample(names, 4)}
        book = PriceBook(
            PriceOverride(
                provider=provider, model=model, valid_from=self.start - timedelta(days=1),
                input_usd_per_mtok=Decimal(prompt), output_usd_per_mtok=Decimal(output),
            )
            for (provider, model), (prompt, output) in rates.items()
        )  # fmt: skip
        moments = sorted(self.start + self.length * self.random.random() for _ in range(2))
        window = TimeRange(moments[0], moments[1] + timedelta(seconds=1))
        wanted = self.random.choice([MODELS, ("small", "huge")])
        tree = parse_filter({"field": "model", "operator": "in", "value": list(wanted)})
        is_dry = self.random.random() < 0.2
        await reprice(
            self.services.writes,
            self.services.freshness,
            book,
            RepriceQuestion(project_id=self.project, window=window, filter=tree, dry_run=is_dry),
        )
        for key, span in self.spans.items():
            asked = span.is_generation and span.cost_source != "reported" and span.model in wanted
            if asked and window.start <= span.ts < window.end and not is_dry:  # type: ignore[operator]
                self.spans[key] = replace(span, **_repriced(span, rates))


def _repriced(span: SpanRecord, rates: dict[tuple[str, str], tuple[int, int]]) -> dict[str, Any]:
    rate = rates.get((span.provider or "", span.model or ""))
    if rate is None or (span.prompt_tokens is None and span.completion_tokens is None):
        return {"total_cost_usd": None, "cost_source": "none"}
    millionths = (span.prompt_tokens or 0) * rate[0] + (span.completion_tokens or 0) * rate[1]
    return {"total_cost_usd": Decimal(millionths).scaleb(-6), "cost_source": "override"}
