"""When visits happen: days, weekdays and hours of an online shop, the same for everybody who asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

from server.demo.demo_span import DemoTrace
from server.demo.scenarios import make_visit
from server.demo.shop import HOURS, WEEKDAYS

# On average a visit gives so many traces.
TRACES_A_VISIT = 1.45
# The last day before the first start is busier, so that short time ranges show something as well.
LAST_DAY_WEIGHT = 3.0
# A trace that began this long ago has ended.
SETTLED = timedelta(minutes=10)


@dataclass(frozen=True)
class Schedule:
    """``traces`` over ``days`` up to ``now``; ``seed`` makes another story."""

    now: datetime
    days: int
    traces: int
    seed: int

    def dates(self) -> list[date]:
        """The days, oldest first."""
        today = self.now.date()
        return [today - timedelta(days=age) for age in range(self.days, -1, -1)]

    def visits(self, day: date) -> int:
        """How many visits begin on a day."""
        weights = {each: self._weight(each) for each in self.dates()}
        return round(self.traces / TRACES_A_VISIT * weights[day] / sum(weights.values()))

    def day_traces(self, day: date) -> Iterator[DemoTrace]:
        """The traces of a day that are over by now. The first is the same whenever it is asked for."""
        for index in range(self.visits(day)):
            yield from self.visit_traces(day, index)

    def visit_traces(self, day: date, index: int) -> list[DemoTrace]:
        """The traces of one visit; none when it lies outside of the schedule's time."""
        rng = Random(f"{self.seed} {day} {index}")  # noqa: S311 - a believable story, not a secret
        hour = rng.choices(range(24), HOURS)[0]
        start = datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + timedelta(seconds=rng.uniform(0, 3600))
        if not self.now - timedelta(days=self.days) <= start <= self.now - SETTLED:
            return []
        return make_visit(rng, start, session=f"visit-{day:%m%d}-{index:04d}")

    def _weight(self, day: date) -> float:
        """Growth of a half over the month, the weekday, and only the part of the day that lies in our time."""
        age = (self.now.date() - day).days
        weight = WEEKDAYS[day.weekday()] * (1.5 - 0.5 * age / max(self.days, 1))
        elapsed = self.now.hour / 24
        if age == 0:
            return weight * LAST_DAY_WEIGHT * elapsed
        if age == self.days:
            return weight * (1 - elapsed)
        return weight * (LAST_DAY_WEIGHT * (1 - elapsed) + elapsed) if age == 1 else weight
