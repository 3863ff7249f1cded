"""Which time series there are: one table, which feeds the API, its metadata, the scrape endpoint and the docs.

Every number is one of the metric engine's counters or sketches, so that PromQL, REST and panels cannot differ. Names
follow Prometheus' conventions: base units, ``_total`` for counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from server.queries.metrics.metric_catalog import DIMENSIONS, HISTOGRAM_BOUNDS, Dimension, Family, Permission
from server.queries.metrics.window_sums import MONEY_UNIT

SeriesType = Literal["counter", "gauge", "histogram"]

SPAN_LABELS: Final = tuple(
    dimension.name for dimension in DIMENSIONS.values() if dimension.is_rolled_up and dimension.family == "spans"
)
"""Labels of series about spans: the dimensions of few values, which rollups know."""
_OUTCOME: Final = frozenset({"status"})


@dataclass(frozen=True, slots=True)
class Part:
    """One counter of a metric, with the labels that tell it from its other parts; ``unit`` of it make up one."""

    counter: str
    labels: Mapping[str, str] = field(default_factory=dict)
    unit: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFamily:
    """One metric as Prometheus sees it.

    A counter has ``parts``. A histogram has the sketch ``sketch``, whose values in ms become seconds, and the counters
    of its sum (in µs) and of its number. ``labels``: the dimensions it is split by.
    """

    name: str
    type: SeriesType
    unit: str
    help: str
    presence: str
    parts: tuple[Part, ...]
    family: Family = "spans"
    labels: tuple[str, ...] = SPAN_LABELS
    permission: Permission = "metrics:read"
    sketch: str | None = None

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions of the labels, in their order."""
        return tuple(DIMENSIONS[name] for name in self.labels)

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its series."""
        if self.type == "histogram":
            return (self.name, *(f"{self.name}{suffix}" for suffix in HISTOGRAM_SUFFIXES))
        return (self.name,)


HISTOGRAM_SUFFIXES: Final = ("_bucket", "_sum", "_count")
BOUND_LABELS: Final[tuple[str, ...]] = (*(repr(bound / 1000) for bound in HISTOGRAM_BOUNDS), "+Inf")
"""Values of the label ``le``: bounds of the engine's histogram, in seconds."""

_MONEY: Final = "costs:read"
_NOT_OUTCOME: Final = tuple(name for name in SPAN_LABELS if name not in _OUTCOME)

_FAMILIES: Final = (
    SeriesFamily(
        name="llm_calls_total",
        type="counter",
        unit="",
        help="Model calls.",
        presence="calls",
        parts=(Part("calls"),),
    ),
    SeriesFamily(
        name="llm_errors_total",
        type="counter",
        unit="",
        help="Model calls with status ERROR; 0 where there were calls and no errors.",
        presence="calls",
        parts=(Part("errors"),),
        labels=_NOT_OUTCOME,
    ),
    SeriesFamily(
        name="llm_spans_total",
        type="counter",
        unit="",
        help="All spans: calls, tools, agents and the rest.",
        presence="spans",
        parts=(Part("spans"),),
    ),
    SeriesFamily(
        name="llm_tokens_total",
        type="counter",
        unit="tokens",
        help="Tokens of model calls: input (cache reads and writes included) and output (reasoning included).",
        presence="calls",
        parts=(
            Part("prompt_tokens", {"token_type": "input"}),
            Part("completion_tokens", {"token_type": "output"}),
        ),
    ),
    SeriesFamily(
        name="llm_special_tokens_total",
        type="counter",
        unit="tokens",
        help="Tokens of special kinds, which llm_tokens_total counts too: read from a cache, written to it, reasoning.",
        presence="calls",
        parts=(
            Part("cached_tokens", {"token_type": "cache_read"}),
            Part("cache_write_tokens", {"token_type": "cache_write"}),
            Part("reasoning_tokens", {"token_type": "reasoning"}),
        ),
    ),
    SeriesFamily(
        name="llm_cost_usd_total",
        type="counter",
        unit="usd",
        help="Money for model calls in US dollars.",
        presence="calls",
        parts=(Part("total_cost", unit=MONEY_UNIT),),
        permission=_MONEY,
    ),
    SeriesFamily(
        name="llm_error_cost_usd_total",
        type="counter",
        unit="usd",
        help="Money for model calls that failed, in US dollars.",
        presence="calls",
        parts=(Part("error_cost", unit=MONEY_UNIT),),
        labels=_NOT_OUTCOME,
        permission=_MONEY,
    ),
    SeriesFamily(
        name="llm_cache_savings_usd_total",
        type="counter",
        unit="usd",
        help="Money saved by the providers' caches in US dollars.",
        presence="calls",
        parts=(Part("cache_savings", unit=MONEY_UNIT),),
        permission=_MONEY,
    ),
    SeriesFamily(
        name="llm_duration_seconds",
        type="histogram",
        unit="seconds",
        help="Time from start to end of model calls.",
        presence="calls",
        parts=(Part("duration_us", unit=1_000_000), Part("calls")),
        sketch="duration",
    ),
    SeriesFamily(
        name="llm_time_to_first_token_seconds",
        type="histogram",
        unit="seconds",
        help="Delay until the first token, of model calls that report it.",
        presence="ttft_count",
        parts=(Part("ttft_us", unit=1_000_000), Part("ttft_count")),
        sketch="ttft",
    ),
    SeriesFamily(
        name="llm_scores_total",
        type="counter",
        unit="",
        help="Scores and feedback given, by the time they were given.",
        presence="scores",
        parts=(Part("scores"),),
        family="scores",
        labels=("score_name", "score_source", "project"),
    ),
)

FAMILIES: Final[dict[str, SeriesFamily]] = {family.name: family for family in _FAMILIES}
FAMILY_OF: Final[dict[str, SeriesFamily]] = {name: family for family in _FAMILIES for name in family.sample_names}
"""Every name of a series with its metric."""
