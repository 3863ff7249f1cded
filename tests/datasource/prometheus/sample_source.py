"""Series held in memory, with Prometheus' own meaning of a sample: what the evaluator is compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasource.prometheus.promql.plan import Read
from datasource.prometheus.promql.syntax import Matcher
from datasource.prometheus.promql.values import Series, Value, Vector, Windows, label

LOOKBACK_MS = 300_000


@dataclass(frozen=True)
class SampleSource:
    """Answers reads from samples; knows no exact increases."""

    series: Sequence[Series]

    def counts(self, matchers: Sequence[Matcher]) -> bool:
        return False

    def adds_up(self, matchers: Sequence[Matcher]) -> bool:
        return False

    def has_buckets(self, matchers: Sequence[Matcher]) -> bool:
        return False

    def counts_alike(self, one: Sequence[Matcher], other: Sequence[Matcher]) -> bool:
        return False

    async def read(self, question: Read) -> Value:
        chosen = [
            series
            for series in self.series
            if all(matcher.accepts(label(series.labels, matcher.name)) for matcher in question.matchers)
        ]
        if question.form == "samples":
            return Windows(chosen, question.times, question.range, question.steps)
        steps = len(question.times)
        values, present = np.zeros((len(chosen), steps)), np.zeros((len(chosen), steps), dtype=bool)
        stamps = np.zeros((len(chosen), steps), dtype=np.int64)
        for row, series in enumerate(chosen):
            place = np.searchsorted(series.times, question.times, side="right") - 1
            found = place >= 0
            place = np.maximum(place, 0)
            present[row] = found & (series.times[place] > question.times - LOOKBACK_MS)
            values[row], stamps[row] = series.values[place], series.times[place]
        return Vector([series.labels for series in chosen], values, present, stamps)
