"""Times of visits: days, weekdays and hours of an online shop, the same at every start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

from server.demo.demo_span import DemoTrace
from server.demo.scenarios import make_visit
from server.demo.shop import HOURS, WEEKDAYS

# Average number of traces per visit.
TRACES_A_VISIT = 1.45
# Longest duration of a trace: one that began this long ago has ended.
SETTLED = timedelta(minutes=10)


@dataclass(frozen=True)
class Schedule:
    """``traces`` over ``days`` up to ``now``; another ``seed`` makes different traces."""

    now: datetime
    days: int
    traces: int
    seed: int

    def dates(self) -> list[date]:
        """Return the days, oldest first."""
        today = self.now.date()
        return [today - timedelta(days=age) for age in range(self.days, -1, -1)]

    def visits(self, day: date) -> int:
        """Return the number of visits that begin on a day, including those before the schedule's time or later than
        now."""
        whole = sum(self._volume(each) * self._part_in_time(each) for each in self.dates())
        return round(self.traces / TRACES_A_VISIT * self._volume(day) / whole)

    def expected_visits(self, day: date) -> float:
        """Return the approximate number of a day's visits that are within the schedule's time."""
        return self.visits(day) * self._part_in_time(day)

    def day_traces(self, day: date) -> Iterator[DemoTrace]:
        """Yield the traces of a day that have ended by now. The first is the same at any time."""
        for index in range(self.visits(day)):
            yield from self.visit_traces(day, index)

    def visit_traces(self, day: date, index: int) -> list[DemoTrace]:
        """Return the traces of one visit; none when it lies outside of the schedule's time."""
        start, rng = self._start(day, index)
        if not self.now - timedelta(days=self.days) <= start <= self.now - SETTLED:
            return []
        return self._visit(day, index, start, rng)

    def upcoming(self) -> Iterator[tuple[datetime, list[DemoTrace]]]:
        """Yield the visits after the schedule's time with their starts, in order, without end, at the same rate."""
        day = (self.now - SETTLED).date()
        while True:
            starts = sorted((self._start(day, index)[0], index) for index in range(self.visits(day)))
            for start, index in starts:
                if start > self.now - SETTLED:
                    yield start, self._visit(day, index, *self._start(day, index))
            day += timedelta(days=1)

    def _start(self, day: date, index: int) -> tuple[datetime, Random]:
        """Return the start of a visit, and the random generator that decides the rest of it."""
        rng = Random(f"{self.seed} {day} {index}")  # noqa: S311 - a believable story, not a secret
        hour = rng.choices(range(24), HOURS)[0]
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight + timedelta(hours=hour, seconds=rng.uniform(0, 3600)), rng

    def _visit(self, day: date, index: int, start: datetime, rng: Random) -> list[DemoTrace]:
        return make_visit(rng, start, session=f"visit-{day:%m%d}-{index:04d}")

    def _volume(self, day: date) -> float:
        """Return the weight of a whole day: it grows from half to one and a half, and weekends are calm."""
        age = (self.now.date() - day).days
        return WEEKDAYS[day.weekday()] * (1.5 - age / max(self.days, 1))

    def _part_in_time(self, day: date) -> float:
        """Return the share of a day's visits that are within the schedule's time: today, those until now; on the first
        day, those from then on.
        """
        if day == self.now.date():
            return self._elapsed
        return 1 - self._elapsed if (self.now.date() - day).days == self.days else 1.0

    @property
    def _elapsed(self) -> float:
        """Share of a day's visits that begin before this time of day; few do at night."""
        return (sum(HOURS[: self.now.hour]) + HOURS[self.now.hour] * self.now.minute / 60) / sum(HOURS)
