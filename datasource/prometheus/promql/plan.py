"""The reads of an expression, before anything is computed.

The tree is rewritten: a part that the source of series answers by itself becomes a :class:`Leaf` with a :class:`Read`.
``sum by`` over counters, ``rate`` and ``increase``, and ``histogram_quantile`` over buckets go down to the source,
which adds up in the database and merges sketches, instead of moving every series up here. The rewritten tree has the
same meaning; a source that cannot do such a thing says so, and the samples are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import numpy as np

from datasource.prometheus.promql.binary import COMPARISONS
from datasource.prometheus.promql.errors import TooMuch
from datasource.prometheus.promql.histograms import BUCKET_LABEL
from datasource.prometheus.promql.syntax import (
    NAME_LABEL,
    Aggregation,
    Binary,
    Call,
    Expr,
    Matcher,
    Moment,
    Negation,
    Number,
    RangeSelector,
    Selector,
    Subquery,
)
from datasource.prometheus.promql.values import Ints, Value

DEFAULT_STEP_MS: Final = 60_000
"""Resolution of a subquery that names none: Prometheus' default evaluation interval."""
MOST_READS: Final = 60
MOST_STEPS: Final = 200_000

Form = Literal["values", "samples", "increase", "quantile", "histogram"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Labels that a sum keeps: ``names``, or all but them when ``is_without``."""

    names: tuple[str, ...]
    is_without: bool


@dataclass(frozen=True, slots=True)
class Read:
    """One question to the source.

    ``values``: a :class:`Vector` with the value of each series at ``times``. ``samples``: :class:`Windows`.
    ``increase``: a Vector of how much each counter grew within ``range`` before each time. ``histogram``: the same as
    :class:`Histograms`; ``quantile``: one quantile of those. ``kept``: the labels to add up to, None for all labels.
    ``lingers``: series that grew by nothing, but did shortly before, are wanted as zeros.
    """

    form: Form
    matchers: tuple[Matcher, ...]
    times: Ints
    range: int = 0
    kept: Kept | None = None
    quantile: float = 0.0
    lingers: bool = True
    steps: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class SeriesSource(Protocol):
    """Where series come from."""

    def counts(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether the matchers choose counters alone, whose exact increases the source knows."""

    def adds_up(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether they choose counters of one name, so that the source may sum over their labels."""

    def has_buckets(self, matchers: Sequence[Matcher]) -> bool:
        """Return whether they choose the buckets of a histogram, or a native histogram, that the source has sketches
        of.
        """

    def counts_alike(self, one: Sequence[Matcher], other: Sequence[Matcher]) -> bool:
        """Return whether both choose counters of the same spans, so that one is there wherever the other is."""

    async def read(self, question: Read) -> Value:
        """Answer one question."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The answer to one of the plan's reads, divided by ``divisor`` (the seconds of a rate)."""

    read: int
    divisor: float = 1.0


@dataclass(frozen=True, slots=True)
class InnerSteps:
    """A subquery: ``expr`` at ``times``, as windows that end at ``ends``."""

    expr: Planned
    times: Ints
    ends: Ints
    range: int


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A function of planned arguments."""

    function: str
    args: tuple[Planned, ...]


@dataclass(frozen=True, slots=True)
class PlannedAggregation:
    """An aggregation of a planned expression."""

    node: Aggregation
    expr: Planned
    param: Planned | None


@dataclass(frozen=True, slots=True)
class PlannedBinary:
    """A binary operator on planned sides."""

    node: Binary
    left: Planned
    right: Planned


@dataclass(frozen=True, slots=True)
class PlannedNegation:
    """The opposite of a planned expression."""

    expr: Planned


@dataclass(frozen=True, slots=True)
class Absent:
    """``absent`` or ``absent_over_time``, which label their answer by the selector that they are about."""

    function: str
    expr: Planned
    matchers: tuple[Matcher, ...]


Planned = Leaf | InnerSteps | PlannedCall | PlannedAggregation | PlannedBinary | PlannedNegation | Absent | Expr


class Planner:
    """Plans one question. ``start`` and ``end`` are what ``@ start()`` and ``@ end()`` mean."""

    def __init__(self, source: SeriesSource, start: int, end: int) -> None:
        self._source = source
        self._start = start
        self._end = end
        self._steps = 0
        self.reads: list[Read] = []

    def plan(self, expr: Expr, times: Ints) -> Planned:
        """Plan ``expr`` at ``times`` and note its reads. Raises :class:`TooMuch`."""
        planned = self._plan(expr, times)
        # Counters that are read at once are read alike.
        self.reads = [
            replace(read, lingers=any(item.lingers for item in self.reads if same_but_for_the_name(item, read)))
            for read in self.reads
        ]
        return planned

    def _plan(self, expr: Expr, times: Ints, *, lingers: bool = True) -> Planned:
        pushed = self._pushed(expr, times, lingers=lingers)
        if pushed is not None:
            return pushed
        match expr:
            case Selector():
                return self._leaf(Read("values", expr.matchers, self._moved(expr, times), steps=times))
            case RangeSelector(selector, length):
                moved = self._moved(selector, times)
                return self._leaf(Read("samples", selector.matchers, moved, length, steps=times))
            case Subquery():
                return self._subquery(expr, times)
            case Negation(inner):
                return PlannedNegation(self._plan(inner, times))
            case Binary(_, left, right):
                wants_zeros = not (_drops_zeros(expr) or self._is_found_with(expr, times))
                return PlannedBinary(expr, self._plan(left, times, lingers=wants_zeros), self._plan(right, times))
            case Aggregation(_, inner, param):
                planned = None if param is None else self._plan(param, times)
                return PlannedAggregation(expr, self._plan(inner, times), planned)
            case Call("absent" | "absent_over_time" as function, args):
                return Absent(function, self._plan(args[0], times), _matchers_of(args[0]))
            case Call(function, args):
                return PlannedCall(function, tuple(self._plan(item, times) for item in args))
            case _:
                return expr

    def _leaf(self, read: Read, divisor: float = 1.0) -> Leaf:
        for place, known in enumerate(self.reads):
            if _same(known, read):
                if read.lingers:
                    self.reads[place] = read
                return Leaf(place, divisor)
        if len(self.reads) >= MOST_READS:
            raise TooMuch(f"the expression reads more than {MOST_READS} different series selectors")
        self.reads.append(read)
        return Leaf(len(self.reads) - 1, divisor)

    def _moved(self, part: Selector | Subquery, times: Ints) -> Ints:
        at: Moment = part.at
        if at is not None:
            fixed = self._start if at == "start" else self._end if at == "end" else int(at)
            times = np.full(len(times), fixed, dtype=np.int64)
        return times - part.offset

    def _subquery(self, expr: Subquery, times: Ints) -> InnerSteps:
        ends = self._moved(expr, times)
        step = expr.step or DEFAULT_STEP_MS
        first = (int(ends.min()) - expr.range) // step * step + step
        last = int(ends.max()) // step * step
        count = max((last - first) // step + 1, 0)
        self._steps += count
        if self._steps > MOST_STEPS:
            raise TooMuch(f"the subqueries have more than {MOST_STEPS} steps: choose a wider resolution")
        inner = first + step * np.arange(count, dtype=np.int64)
        return InnerSteps(self._plan(expr.expr, inner), inner, ends, expr.range)

    def _is_found_with(self, expr: Binary, times: Ints) -> bool:
        """Return whether the left side of ``x / (y > 0)`` matters only where ``y`` counted something, and ``x`` did so
        too.
        """
        right = expr.right
        if expr.op in ("or", "unless") or expr.matching.labels or expr.matching.on or expr.returns_bool:
            return False
        if not isinstance(right, Binary) or not _drops_zeros(right):
            return False
        one, other = self._counted(expr.left, times, _COUNTER), self._counted(right.left, times, _COUNTER)
        if one is None or other is None or not same_but_for_the_name(one[0], other[0]):
            return False
        return self._source.counts_alike(one[0].matchers, other[0].matchers)

    def _pushed(self, expr: Expr, times: Ints, *, lingers: bool) -> Planned | None:
        """Return the part as a leaf, when the source answers it whole."""
        match expr:
            case Call("histogram_quantile", (Number(fraction), inner)) if 0 <= fraction <= 1:
                found = self._counted(inner, times, _SKETCH)
                if found is None or not self._source.has_buckets(found[0].matchers):
                    return None
                return self._leaf(replace(found[0], form="quantile", quantile=fraction))
            case Call("rate" | "increase") | Aggregation("sum"):
                found = self._counted(expr, times, _COUNTER)
                if found is None:
                    return None
                read, divisor = found
                is_known = self._source.counts if read.kept is None else self._source.adds_up
                if is_known(read.matchers):
                    return self._leaf(replace(read, lingers=lingers), divisor)
                if read.form == "increase" and self._source.has_buckets(read.matchers) and _is_native(read.matchers):
                    return self._leaf(replace(read, form="histogram"), divisor)
                return None
            case _:
                return None

    def _counted(self, expr: Expr, times: Ints, purpose: str) -> tuple[Read, float] | None:
        """Return ``[sum by (…)] rate|increase(selector[range])``, or ``sum by (…) (selector)`` of counters, as a
        read.
        """
        kept = None
        if isinstance(expr, Aggregation) and expr.op == "sum":
            kept = Kept(expr.labels, expr.without)
            loses_buckets = (BUCKET_LABEL in expr.labels) is expr.without
            if purpose == _SKETCH and loses_buckets and not _native_below(expr.expr):
                # Added up over all buckets there is nothing left to find a quantile in.
                return None
            expr = expr.expr
        match expr:
            case Call("rate" | "increase" as function, (RangeSelector(selector, length),)):
                divisor = length / 1000 if function == "rate" else 1.0
                moved = self._moved(selector, times)
                return Read("increase", selector.matchers, moved, length, kept, steps=times), divisor
            case Selector() if kept is not None and purpose == _COUNTER:
                return Read("values", expr.matchers, self._moved(expr, times), kept=kept, steps=times), 1.0
            case _:
                return None


_COUNTER: Final = "counter"
_SKETCH: Final = "sketch"


def _is_native(matchers: Sequence[Matcher]) -> bool:
    return not any(item.name == "__name__" and item.value.endswith("_bucket") for item in matchers)


def _native_below(expr: Expr) -> bool:
    match expr:
        case Call(_, (RangeSelector(selector, _),)):
            return _is_native(selector.matchers)
        case _:
            return False


def _drops_zeros(expr: Binary) -> bool:
    """Return whether ``expr`` compares its left side with a number that zero is not like, and keeps nothing of it."""
    compares = COMPARISONS.get(expr.op)
    if compares is None or expr.returns_bool or not isinstance(expr.right, Number):
        return False
    return not compares(np.zeros(1), np.array([expr.right.value]))[0]


def same_but_for_the_name(one: Read, other: Read) -> bool:
    """Return whether two reads differ in the names of their series alone."""
    return (one.form, one.range, one.kept, _labels_of(one)) == (
        other.form, other.range, other.kept, _labels_of(other)
    ) and np.array_equal(one.times, other.times)  # fmt: skip


def _labels_of(read: Read) -> list[Matcher]:
    return [item for item in read.matchers if item.name != NAME_LABEL]


def _same(one: Read, other: Read) -> bool:
    return (
        (one.form, one.matchers, one.range, one.kept, one.quantile)
        == (other.form, other.matchers, other.range, other.kept, other.quantile)
        and np.array_equal(one.times, other.times)
        and np.array_equal(one.steps, other.steps)
    )


def _matchers_of(expr: Expr) -> tuple[Matcher, ...]:
    match expr:
        case Selector(matchers):
            return matchers
        case RangeSelector(selector, _):
            return selector.matchers
        case _:
            return ()
