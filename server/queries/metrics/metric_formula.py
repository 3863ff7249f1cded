"""Formulas: which parts a measure needs, and how its values follow from the merged parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, Final

from server.queries.metrics.metric_answer import HistogramBin, Value
from server.queries.metrics.metric_catalog import (
    HISTOGRAM_BOUNDS,
    ActorKind,
    Distinct,
    Distribution,
    Family,
    Formula,
    Rate,
    Ratio,
    Total,
)
from server.queries.metrics.metric_question import Measure
from server.rollups.sketch import PERCENTILES

# Counters that also count spans which are not model calls; a question without them reads calls alone.
ALL_SPAN_COUNTERS: Final = frozenset({"spans", "span_errors", "traces", "span_duration_us"})
MONEY_COUNTERS: Final = frozenset({"prompt_cost", "completion_cost", "total_cost", "error_cost", "cache_savings"})
_PRESENCE: Final = {"scores": "scores", "retries": "retries", "actors": "spans"}
_MONEY_DIVISION: Final = Context(prec=20)


@dataclass(frozen=True, slots=True)
class Needs:
    """The parts to read for some measures of one family.

    ``presence`` is the counter that decides whether a cell has data at all. ``fractions``: for each sketch the wanted
    quantiles, where 0 is the minimum and 1 the maximum.
    """

    family: Family
    presence: str
    counters: tuple[str, ...]
    fractions: dict[str, tuple[float, ...]]
    histograms: frozenset[str]
    distinct: tuple[ActorKind, ...]

    @property
    def is_calls_only(self) -> bool:
        """Whether spans that are not model calls can be left out."""
        return self.presence == "calls"

    @property
    def sketches(self) -> tuple[str, ...]:
        """Every sketch that a measure needs."""
        return tuple(dict.fromkeys((*self.fractions, *sorted(self.histograms))))


def needs_of(measures: Iterable[Measure], family: Family) -> Needs:
    """Return the parts that the ``measures`` of ``family`` need. Those of other families may decide what is present."""
    measures = tuple(measures)
    # Users are counted over all spans. So beside a count of users, every metric has a group or bucket that has a span.
    everything = any(isinstance(measure.definition.formula, Distinct) for measure in measures)
    counters: dict[str, None] = {}
    fractions: dict[str, set[float]] = {}
    histograms: set[str] = set()
    distinct: dict[ActorKind, None] = {}
    for measure in measures:
        if measure.definition.family != family:
            continue
        match measure.definition.formula:
            case Total(counter, per):
                counters[counter] = None
                if measure.effective == "avg":
                    counters[per] = None
            case Ratio(numerator, denominator):
                counters |= {numerator: None, denominator: None}
            case Rate(counter):
                counters[counter] = None
            case Distribution(sketch, total, weight):
                wanted = fraction_of(measure.effective)
                if measure.effective == "histogram":
                    histograms.add(sketch)
                elif wanted is not None:
                    fractions.setdefault(sketch, set()).add(wanted)
                else:
                    counters |= {total: None, weight: None}
            case Distinct(actor):
                distinct[actor] = None
    everything = everything or "span_duration" in fractions or "span_duration" in histograms
    everything = everything or not ALL_SPAN_COUNTERS.isdisjoint(counters)
    presence = _PRESENCE.get(family, "spans" if everything else "calls")
    return Needs(
        family,
        presence,
        tuple(dict.fromkeys((presence, *counters))),
        {sketch: tuple(sorted(found)) for sketch, found in fractions.items()},
        frozenset(histograms),
        tuple(distinct),
    )


def fraction_of(aggregation: str) -> float | None:
    """Return the quantile of ``aggregation``; None if it is not a quantile."""
    return {"min": 0.0, "max": 1.0, **PERCENTILES}.get(aggregation)


CellReader = Callable[[int, float], Value]
"""Returns the value of a cell. Takes the number of the cell, and the length of its bucket in seconds."""


@dataclass(slots=True)
class Cells:
    """Merged parts, indexed by cell: ``group × buckets + bucket``. Counters start at zero."""

    needs: Needs
    size: int
    counters: dict[str, list[Any]] = field(default_factory=dict)
    quantiles: dict[tuple[str, float], list[float | None]] = field(default_factory=dict)
    histograms: dict[str, list[list[int]]] = field(default_factory=dict)
    distinct: dict[ActorKind, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Allocate every counter."""
        for name in self.needs.counters:
            self.counters[name] = [0] * self.size

    def is_present(self, cell: int) -> bool:
        """Return whether anything was counted in the cell."""
        return bool(self.counters[self.needs.presence][cell])

    def value(self, measure: Measure, cell: int, seconds: float) -> Value:
        """Return the value of ``measure``; ``seconds`` is the length of the bucket. None: no data."""
        return self.reader(measure)(cell, seconds)

    def reader(self, measure: Measure) -> CellReader:
        """Return a function that reads the value of ``measure`` from a cell; the formula is looked up only once."""
        formula = measure.definition.formula
        if isinstance(formula, Distinct):
            distinct = self.distinct[formula.actor]
            return lambda cell, seconds: distinct[cell]
        presence, read = self.counters[self.needs.presence], self._reader(formula, measure.effective)
        return lambda cell, seconds: read(cell, seconds) if presence[cell] else None

    def _reader(self, formula: Formula, aggregation: str) -> CellReader:
        counters = self.counters
        match formula:
            case Total(counter, per) if aggregation == "avg":
                sums, weights = counters[counter], counters[per]
                return lambda cell, seconds: _divided(sums[cell], weights[cell])
            case Total(counter):
                sums = counters[counter]
                if counter in MONEY_COUNTERS:
                    return lambda cell, seconds: plain_decimal(Decimal(sums[cell]))
                return lambda cell, seconds: int(sums[cell])
            case Ratio(numerator, denominator, scale):
                sums, weights = counters[numerator], counters[denominator]
                return lambda cell, seconds: _divided(sums[cell] * scale, weights[cell])
            case Rate(counter):
                sums = counters[counter]
                return lambda cell, seconds: float(sums[cell]) / seconds if seconds > 0 else None
            case Distribution(sketch) if aggregation == "histogram":
                histograms = self.histograms[sketch]
                return lambda cell, seconds: _bins(histograms[cell])
            case Distribution(sketch, total, weight, divisor, factor):
                fraction = fraction_of(aggregation)
                if fraction is not None:
                    quantiles = self.quantiles[sketch, fraction]
                    return lambda cell, seconds: quantiles[cell]
                sums = counters[total]
                if aggregation == "sum":
                    return lambda cell, seconds: int(sums[cell]) * factor / divisor
                weights = counters[weight]
                return lambda cell, seconds: _divided(int(sums[cell]) * factor, int(weights[cell]) * divisor)
            case _:
                raise AssertionError("distinct counts are read elsewhere")


def _bins(counts: list[int]) -> Value:
    bins: list[HistogramBin] = list(zip((*HISTOGRAM_BOUNDS, None), counts, strict=True))
    return tuple(bins) if any(counts) else None


def plain_decimal(value: Decimal) -> Decimal:
    """Return the amount without trailing zeros and without an exponent, so that equal amounts look equal."""
    short = value.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))


def _divided(total: Any, by: Any) -> Value:
    if not by:
        return None
    if isinstance(total, Decimal):
        return plain_decimal(_MONEY_DIVISION.divide(total, Decimal(by)))
    return float(total / by)
