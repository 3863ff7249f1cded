"""The shop's troubles and their hours: outages, a slow provider, an expensive job, an agent in a loop, a worse prompt.

Everything depends on the calendar alone, not on when the demo is started: a second start finds the same episodes,
and its spans are replays of those already stored. The kinds take turns, so that every week has each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from random import Random
from typing import Final

ERROR_BURST: Final = "error burst"
SLOW_PROVIDER: Final = "slow provider"
COST_SPIKE: Final = "cost spike"
AGENT_LOOP: Final = "agent loop"

# Days of a cycle of seven with an episode; the others are calm.
_CALENDAR: Final[Mapping[int, str]] = {0: ERROR_BURST, 2: SLOW_PROVIDER, 4: COST_SPIKE, 5: AGENT_LOOP}
_HOURS: Final[Mapping[str, int]] = {ERROR_BURST: 2, SLOW_PROVIDER: 4, COST_SPIKE: 3, AGENT_LOOP: 5}
_PROVIDERS: Final = ("openai", "anthropic", "gcp.gemini")
_CYCLE: Final = 7

SLOWNESS: Final = 3.0
"""Factor on the time of calls of the slow provider."""
COSTLY_FACTOR: Final = 9
"""Factor on the length of the expensive job's answers."""
LOOP_STEPS: Final = 18
"""Factor on the steps of an agent in a loop."""
PROMPT_DAYS: Final = 12
"""Days from one version of the prompts to the next."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One time of trouble: its ``kind``, the provider or service concerned, and its hours ``first_hour <= hour <
    last_hour`` (UTC)."""

    kind: str
    provider: str
    first_hour: int
    last_hour: int


def episode_of(day: date) -> Episode | None:
    """Return the episode of a day, if it has one."""
    kind = _CALENDAR.get(day.toordinal() % _CYCLE)
    if kind is None:
        return None
    rng = Random(f"episode {day}")  # noqa: S311 - a believable story, not a secret
    first = rng.randint(8, 17)
    return Episode(kind, rng.choice(_PROVIDERS), first, first + _HOURS[kind])


def is_on(kind: str, moment: datetime, provider: str | None = None) -> bool:
    """Return whether an episode of ``kind`` (of ``provider``, if given) is in progress at ``moment``."""
    found = episode_of(moment.date())
    if found is None or found.kind != kind or not found.first_hour <= moment.hour < found.last_hour:
        return False
    return provider is None or found.provider == provider


def prompt_version(day: date) -> int:
    """Return the version of the prompts on a day."""
    return day.toordinal() // PROMPT_DAYS % 9 + 1


def is_worse_prompt(day: date) -> bool:
    """Return whether the day's version of the prompts is worse: every fourth one is."""
    return day.toordinal() // PROMPT_DAYS % 4 == 1
