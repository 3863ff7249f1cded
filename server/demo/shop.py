"""The invented web shop: its services, the models they call, its people, and their hours.

Everything here depends on the calendar day alone, not on when the demo is started: a second start finds the
same deployments and incidents, and its spans are replays of those already stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any


@dataclass(frozen=True)
class Model:
    """A model as its callers feel it. Times in milliseconds; ``caches`` says whether prompts are cached."""

    provider: str
    name: str
    first_token_ms: float
    token_ms: float
    reasons: bool = False
    caches: bool = False


MODELS = {
    model.name: model
    for model in (
        Model("openai", "gpt-4.1-mini", 380, 9, caches=True),
        Model("openai", "gpt-4.1", 520, 14, caches=True),
        Model("openai", "gpt-5-mini", 900, 8, reasons=True, caches=True),
        Model("openai", "text-embedding-3-small", 60, 0),
        Model("anthropic", "claude-sonnet-4-5", 820, 15, caches=True),
        Model("anthropic", "claude-haiku-4-5", 420, 7, caches=True),
        Model("gcp.gemini", "gemini-2.5-flash", 350, 5),
        Model("gcp.gemini", "gemini-2.5-pro", 1400, 11, reasons=True),
        Model("mistral_ai", "mistral-small-latest", 240, 6),
        Model("anthropic", "claude-opus-4-5", 1200, 19, caches=True),
    )
}


@dataclass(frozen=True)
class Service:
    """One application. ``share`` of the visits; a new version every ``release_days``; models by weight."""

    name: str
    scenario: str
    share: float
    release_days: int
    models: tuple[tuple[str, float], ...]

    def version(self, day: date) -> str:
        """Return the version deployed on a day."""
        return f"2.{day.toordinal() // self.release_days % 40}.0"

    def is_bad_release(self, day: date) -> bool:
        """Return whether the release is bad: every fifth is slower and fails more often, so that a dashboard has
        something to find.
        """
        return day.toordinal() // self.release_days % 5 == 3


SERVICES = (
    Service(
        "support-assistant",
        "support",
        0.45,
        7,
        (("gpt-4.1-mini", 5), ("claude-haiku-4-5", 3), ("gemini-2.5-flash", 2)),
    ),
    Service("product-search", "search", 0.25, 10, (("text-embedding-3-small", 1),)),
    Service("code-review-agent", "code_review", 0.08, 5, (("claude-sonnet-4-5", 3), ("gpt-4.1", 1))),
    Service(
        "claude-code", "coding", 0.08, 11, (("claude-sonnet-4-5", 5), ("claude-opus-4-5", 1), ("claude-haiku-4-5", 2))
    ),
    Service("translation-gateway", "translation", 0.10, 14, (("mistral-small-latest", 3), ("gemini-2.5-flash", 1))),
    Service("report-writer", "report", 0.04, 9, (("gpt-5-mini", 2), ("gemini-2.5-pro", 1))),
)

USERS = tuple(f"user-{number:03d}" for number in range(1, 181))
TENANTS = ("retail", "wholesale", "outlet")

REPOSITORIES = ("shop-web", "shop-payments", "search-index", "infra")

# How busy an hour is: calm nights (other continents shop then), a rise in the morning, a peak in the evening.
HOURS = (6, 5, 5, 5, 5, 6, 7, 9, 11, 12, 12, 13, 12, 11, 11, 11, 12, 14, 16, 17, 15, 12, 9, 7)
# Monday to Sunday.
WEEKDAYS = (1.0, 1.05, 1.1, 1.05, 1.0, 0.62, 0.55)


@cache
def texts() -> dict[str, Any]:
    """Return questions of people and answers to them (conversations.json)."""
    loaded: dict[str, Any] = json.loads(files("server.demo").joinpath("conversations.json").read_text("utf-8"))
    return loaded


def choose(rng: Random, weighted: Sequence[tuple[str, float]]) -> str:
    """Return one name, by weight."""
    return rng.choices([name for name, _ in weighted], [weight for _, weight in weighted])[0]
