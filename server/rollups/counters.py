"""Counters and sketches of the rollups: what one span adds to each.

This table is the only definition. Composed from it are the deltas that ingest writes, the rebuild from raw rows, the
lists of columns that the folder adds up, and the sums of the metric engine over raw rows and over rollups. They agree
by construction.

Expressions are SQL over one span called ``t``: a row of llm_traces or of the TEMP table span_changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from server.storage.statements import statement

CALL: Final = "t.is_generation"
FAILED: Final = "t.status_code = 'ERROR'"
_ROOT: Final = "t.parent_span_id IS NULL"
_WITH_TTFT: Final = f"{CALL} AND t.ttft_ms IS NOT NULL"
_WITH_SPEED: Final = f"{CALL} AND t.completion_tokens > 0 AND t.duration_ms >= 0.001"
_MICROSECONDS: Final = "round({} * 1000)::bigint"


@dataclass(frozen=True, slots=True)
class Counter:
    """A sum that every rollup row has.

    ``value``: what a span adds; None: 1. ``condition``: which spans add. ``type``: of the column; a sum of whole
    numbers that may leave the range of bigint is numeric.
    """

    name: str
    condition: str | None = CALL
    value: str | None = None
    type: Literal["bigint", "numeric"] = "bigint"

    def total(self, condition: str | None = None) -> str:
        """Return the counter of a group of spans as an aggregate; ``condition``: of these spans only."""
        conditions = [part for part in (self.condition, condition) if part is not None]
        kept = f" FILTER (WHERE {' AND '.join(dict.fromkeys(conditions))})" if conditions else ""
        if self.value is None:
            return f"count(*){kept}"
        return f"coalesce(sum({self.value}){kept}, 0)" if kept else f"sum({self.value})"

    @property
    def change(self) -> str:
        """The counter of a group of changes: each span has a ``sign``, 1 as it is now and -1 as it was."""
        kept = f" FILTER (WHERE {self.condition})" if self.condition else ""
        return f"coalesce(sum(t.sign{f' * {self.value}' if self.value else ''}){kept}, 0)"


@dataclass(frozen=True, slots=True)
class Sketch:
    """A histogram (sketch.py) that every rollup row has: ``value`` of the spans of ``condition``."""

    name: str
    value: str
    condition: str

    @property
    def column(self) -> str:
        """The column of rollups that holds it."""
        return f"{self.name}_sketch"

    def packed(self, count: str) -> str:
        """Return the sketch of a group of spans, each of which counts ``count`` times."""
        return _packed(self.value, self.condition, count)


def _packed(value: str, condition: str, count: str) -> str:
    entries = f"string_agg(sketch_entry({value}, {count}), ''::bytea) FILTER (WHERE {condition})"
    return f"coalesce({entries}, ''::bytea)"


COUNTERS: Final = {
    counter.name: counter
    for counter in (
        Counter("spans", None),
        Counter("errors", FAILED),
        Counter("traces", _ROOT),
        Counter("prompt_tokens", value="t.prompt_tokens"),
        Counter("completion_tokens", value="t.completion_tokens"),
        Counter("total_tokens", value="t.total_tokens"),
        Counter("cached_tokens", value="t.cached_tokens"),
        Counter("cache_write_tokens", value="t.cache_write_tokens"),
        Counter("reasoning_tokens", value="t.reasoning_tokens"),
        Counter("prompt_cost", value="t.prompt_cost_usd", type="numeric"),
        Counter("completion_cost", value="t.completion_cost_usd", type="numeric"),
        Counter("total_cost", value="t.total_cost_usd", type="numeric"),
        Counter("cache_savings", value="t.cache_savings_usd", type="numeric"),
        Counter("error_cost", f"{CALL} AND {FAILED}", "t.total_cost_usd", "numeric"),
        Counter("duration_us", None, _MICROSECONDS.format("t.duration_ms"), "numeric"),
        Counter("ttft_us", _WITH_TTFT, _MICROSECONDS.format("t.ttft_ms"), "numeric"),
        Counter("ttft_count", _WITH_TTFT),
        Counter("speed_us", _WITH_SPEED, _MICROSECONDS.format("t.duration_ms"), "numeric"),
        Counter("speed_tokens", _WITH_SPEED, "t.completion_tokens"),
        Counter("speed_count", _WITH_SPEED),
    )
}
SKETCHES: Final = {
    sketch.name: sketch
    for sketch in (
        Sketch("duration", "t.duration_ms", "true"),
        Sketch("ttft", "t.ttft_ms", _WITH_TTFT),
        Sketch("speed", "t.completion_tokens * 1000 / t.duration_ms", _WITH_SPEED),
    )
}


@dataclass(frozen=True, slots=True)
class SpanSum:
    """A sum that the metric engine asks for: of ``counter``, less that of ``less``.

    ``calls_only``: over model calls. A counter that only model calls add to does not need it.
    """

    counter: str
    less: str | None = None
    calls_only: bool = False

    def of_spans(self) -> str:
        """Return the aggregate over raw rows ``t``."""
        totals = " - ".join(COUNTERS[name].total(self._condition) for name in self._counters)
        return totals if self.less is None else f"({totals})"

    def of_rollups(self) -> str:
        """Return the aggregate over rollup rows ``r``, whose combination of dimensions is ``t``."""
        columns = " - ".join(f"r.{name}" for name in self._counters)
        total = f"coalesce(sum({columns}) FILTER (WHERE {CALL}), 0)" if self.calls_only else f"sum({columns})"
        return f"{total}::bigint" if COUNTERS[self.counter].type == "bigint" else total

    @property
    def _counters(self) -> tuple[str, ...]:
        return (self.counter,) if self.less is None else (self.counter, self.less)

    @property
    def _condition(self) -> str | None:
        return CALL if self.calls_only else None


@dataclass(frozen=True, slots=True)
class SpanSketch:
    """A distribution that the metric engine reads: the values of ``sketch``; ``calls_only``: of model calls."""

    sketch: str
    calls_only: bool = True

    def packed(self, count: str) -> str:
        """Return the sketch of a group of spans ``t``, each of which counts ``count`` times."""
        return _packed(SKETCHES[self.sketch].value, self._condition, count)

    def percentiles(self, fractions: str) -> str:
        """Return exact percentiles of a group of spans ``t``: one for a number, an array for an array."""
        value = SKETCHES[self.sketch].value
        return f"percentile_disc({fractions}) WITHIN GROUP (ORDER BY {value}) FILTER (WHERE {self._condition})"

    @property
    def column(self) -> str:
        """The column of rollups that holds it."""
        return SKETCHES[self.sketch].column

    @property
    def _condition(self) -> str:
        own = SKETCHES[self.sketch].condition
        return CALL if own == "true" and self.calls_only else own

    @property
    def rollup_condition(self) -> str:
        """Which rollup rows, by their combination of dimensions ``t``, have it."""
        return CALL if self.calls_only else "true"


SPAN_SUMS: Final = {
    **{name: SpanSum(name) for name in COUNTERS},
    "span_errors": SpanSum("errors"),
    "calls": SpanSum("spans", calls_only=True),
    "errors": SpanSum("errors", calls_only=True),
    "successes": SpanSum("spans", less="errors", calls_only=True),
    "duration_us": SpanSum("duration_us", calls_only=True),
    "span_duration_us": SpanSum("duration_us"),
}
SPAN_SKETCHES: Final = {
    "duration": SpanSketch("duration"),
    "span_duration": SpanSketch("duration", calls_only=False),
    "ttft": SpanSketch("ttft"),
    "speed": SpanSketch("speed"),
}

_LINE: Final = re.compile(r"\$(counters|sketches): (.+?)(,?)$", re.MULTILINE)


@cache
def counter_statement(name: str) -> str:
    """Return the statement ``name`` with its lists of counters and sketches filled in.

    A line ``$counters: PATTERN,`` repeats the pattern for each counter, ``$sketches: PATTERN,`` for each sketch.
    ``{name}``, ``{type}``, ``{change}`` and ``{total}`` in a pattern are those of :class:`Counter`; ``{column}``,
    ``{change}`` and ``{total}`` those of a :class:`Sketch`.
    """

    def filled(line: re.Match[str]) -> str:
        if line[1] == "counters":
            parts = [
                line[2].format(name=counter.name, type=counter.type, change=counter.change, total=counter.total())
                for counter in COUNTERS.values()
            ]
        else:
            parts = [
                line[2].format(column=sketch.column, change=sketch.packed("t.sign"), total=sketch.packed("1"))
                for sketch in SKETCHES.values()
            ]
        return ", ".join(parts) + line[3]

    return _LINE.sub(filled, statement(name))
