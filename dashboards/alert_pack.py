"""The alert pack: rules on the Prometheus API, for Grafana's built-in data source, which needs no plugin.

Every bound is one of :data:`BOUNDS`; docs/reference/alerts.md explains each rule and repeats the table. Rules judge a
provider, a service or a budget, never a whole installation, and skip those with too few calls for a verdict: quiet
services are judged by an hour's calls, busy ones within minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards import llm_agents, llm_cost, llm_errors, llm_latency, llm_overview, llm_quality
from dashboards.alert_rules import AlertGroup, PromqlAlert


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds beyond which an alert fires. Shares are fractions of 1; factors compare with the week before."""

    fewest_calls: int = 10
    """Fewest calls in the window: with fewer, a share or a percentile has no meaning."""
    busy_calls: int = 50
    """Calls in ten minutes from which ten minutes are judged; with fewer, the hour is."""
    error_share: float = 0.2
    error_share_slow: float = 0.05
    fewest_calls_slow: int = 200
    """Fewest calls in six hours for the slow rule."""
    refused_share: float = 0.1
    latency_factor: float = 2
    cost_factor: float = 2.5
    least_cost_usd: float = 0.1
    """Cost of an hour in US dollars below which no spike is reported."""
    expected_calls: int = 20
    """Calls in the same hour of yesterday and of last week from which silence is a fault."""
    score_factor: float = 0.85
    fewest_scores: int = 50
    loop_factor: float = 3
    fewest_runs: int = 3
    judged_part: float = 0.1
    """Share of a budget's period that must be over before a projection is judged."""


BOUNDS: Final = Bounds()

_CHAT: Final = 'operation="chat", status!="ERROR"'
_BY_PROVIDER: Final = "project, provider"
_BY_MODEL: Final = "project, provider, model"
_BY_SERVICE: Final = "project, service"
_REFUSED: Final = 'error_type=~"(?i).*(rate.?limit|too.?many|quota|overloaded|429).*"'


def increase(series: str, window: str, by: str, *, selector: str = "", offset: str = "") -> str:
    """Return the increase of a counter within ``window``, summed by the labels ``by``."""
    chosen = f"{series}{{{selector}}}" if selector else series
    moved = f" offset {offset}" if offset else ""
    return f"sum by ({by}) (increase({chosen}[{window}]{moved}))"


def share(part: str, whole: str, window: str, by: str, fewest: int, *, selector: str = "") -> str:
    """Return ``part`` divided by ``whole`` within ``window``, if ``whole`` is at least ``fewest``."""
    return f"{increase(part, window, by, selector=selector)} / ({increase(whole, window, by)} >= {fewest})"


def quickly(part: str, whole: str, by: str, *, selector: str = "") -> str:
    """Return the share in the last ten minutes if these have many calls, else in the last hour."""
    return (
        f"{share(part, whole, '10m', by, BOUNDS.busy_calls, selector=selector)}"
        f" or {share(part, whole, '1h', by, BOUNDS.fewest_calls, selector=selector)}"
    )


def slower(histogram: str) -> str:
    """Return the p75 of the last hour divided by that of the last week, of each model's successful chats.

    Of the ten calls that a model may have in an hour, the p95 would be a single one.
    """

    def p75(window: str) -> str:
        buckets = f"sum by ({_BY_MODEL}, le) (rate({histogram}_bucket{{{_CHAT}}}[{window}]))"
        return f"histogram_quantile(0.75, {buckets})"

    calls = increase(f"{histogram}_count", "1h", _BY_MODEL, selector=_CHAT)
    return f"{p75('1h')} / {p75('7d')} and {calls} >= {BOUNDS.fewest_calls}"


_HOURLY_COST: Final = increase("llm_cost_usd_total", "1h", _BY_SERVICE)


def tools_a_run(window: str, fewest_runs: int) -> str:
    """Return the number of tools that an agent calls per run, within ``window``."""
    tools = increase("llm_spans_total", window, _BY_SERVICE, selector='operation="tool"')
    runs = increase("llm_spans_total", window, _BY_SERVICE, selector='operation="agent"')
    return f"{tools} / ({runs} >= {fewest_runs})"


_SCORE: Final = "avg by (project, score_name) (llm_score)"
_USUAL_SCORE: Final = "avg by (project, score_name) (avg_over_time(llm_score[7d:1d] offset 1d))"

_PERCENT: Final = "{{ .Value | humanizePercentage }}"
_TIMES: Final = '{{ printf "%.1f" .Value }} times'
_PROVIDER: Final = "{{ $labels.provider }} (project {{ $labels.project }})"
_MODEL: Final = "{{ $labels.model }} ({{ $labels.provider }}, project {{ $labels.project }})"
_SERVICE: Final = "{{ $labels.service }} (project {{ $labels.project }})"
_BUDGET: Final = "Budget {{ $labels.budget }} of project {{ $labels.project }}"

_ERROR_RATE: Final = (llm_errors.BOARD, "Error rate by ${group_by:text}")

_TRAFFIC: Final = (
    PromqlAlert(
        uid="llm-error-rate-high", title="LLMErrorRateHigh", severity="critical",
        summary=f"{_PERCENT} of the calls to {_PROVIDER} fail.",
        description="Of the last ten minutes where they have many calls, else of the last hour. See the error classes "
                    "on the dashboard; switch to another model or provider if the provider is down.",
        expression=quickly("llm_errors_total", "llm_calls_total", _BY_PROVIDER),
        comparison=">", bound=BOUNDS.error_share, hold="5m", panel=_ERROR_RATE,
    ),
    PromqlAlert(
        uid="llm-error-rate-elevated", title="LLMErrorRateElevated", severity="warning",
        summary=f"{_PERCENT} of the calls to {_PROVIDER} failed in the last six hours.",
        description="Too few at a time to be an outage, too many to be chance. Look for the error class and the "
                    "release with which it began.",
        expression=share("llm_errors_total", "llm_calls_total", "6h", _BY_PROVIDER, BOUNDS.fewest_calls_slow),
        comparison=">", bound=BOUNDS.error_share_slow, hold="30m", panel=_ERROR_RATE,
    ),
    PromqlAlert(
        uid="llm-rate-limited", title="LLMRateLimited", severity="warning",
        summary=f"{_PROVIDER} refuses {_PERCENT} of the calls as too many.",
        description="Spread the calls, ask the provider for a higher limit, or send a part of them elsewhere.",
        expression=quickly("llm_errors_total", "llm_calls_total", _BY_PROVIDER, selector=_REFUSED),
        comparison=">", bound=BOUNDS.refused_share, hold="5m", panel=(llm_errors.BOARD, "Failed calls by class"),
    ),
    PromqlAlert(
        uid="llm-latency-high", title="LLMLatencyHigh", severity="warning",
        summary=f"Answers of {_MODEL} take {_TIMES} as long as in the last week (p75).",
        description="Successful chat calls of the last hour against those of the last week. Compare models and look "
                    "for longer outputs before you blame the provider.",
        expression=slower("llm_duration_seconds"),
        comparison=">", bound=BOUNDS.latency_factor, hold="5m", panel=(llm_latency.BOARD, "Latency"),
    ),
    PromqlAlert(
        uid="llm-first-token-slow", title="LLMFirstTokenSlow", severity="warning",
        summary=f"The first token of {_MODEL} takes {_TIMES} as long as in the last week (p75).",
        description="People wait before they see anything. Longer inputs, a cold cache or a busy provider are the "
                    "usual causes.",
        expression=slower("llm_time_to_first_token_seconds"),
        comparison=">", bound=BOUNDS.latency_factor, hold="5m", panel=(llm_latency.BOARD, "Time to first token"),
    ),
    PromqlAlert(
        uid="llm-no-traffic", title="LLMNoTraffic", severity="critical",
        summary="No calls of project {{ $labels.project }} for an hour.",
        description='There were {{ printf "%.0f" .Value }} in the same hour of yesterday. Either nothing calls, or '
                    "telemetry does not arrive: look at the exporters first.",
        expression=(
            f"{increase('llm_calls_total', '1h', 'project', offset='1d')} >= {BOUNDS.expected_calls}"
            f" and {increase('llm_calls_total', '1h', 'project', offset='7d')} >= {BOUNDS.expected_calls}"
            f" unless {increase('llm_calls_total', '1h', 'project')} > 0"
        ),
        comparison=">", bound=0, hold="10m", panel=(llm_overview.BOARD, "Calls"),
    ),
)  # fmt: skip

_QUALITY: Final = (
    PromqlAlert(
        uid="llm-score-regression", title="LLMScoreRegression", severity="warning",
        summary="The score {{ $labels.score_name }} of project {{ $labels.project }} fell to "
                f"{_PERCENT} of its usual level.",
        description="The mean of the last day against that of the seven days before. A new prompt, model or release "
                    "is the usual cause: compare versions on LLM prompts and versions.",
        expression=(
            f"{_SCORE} / {_USUAL_SCORE} and"
            f" {increase('llm_scores_total', '1d', 'project, score_name')} >= {BOUNDS.fewest_scores}"
        ),
        comparison="<", bound=BOUNDS.score_factor, hold="30m", panel=(llm_quality.BOARD, "Score by evaluation"),
    ),
    PromqlAlert(
        uid="llm-agent-loop", title="LLMAgentLoop", severity="warning",
        summary=f"Agents of {_SERVICE} call {_TIMES} as many tools a run as usual.",
        description="They may go in circles, which costs money at every step. Open one of the newest long traces and "
                    "look for a tool that is called with the same arguments again and again.",
        expression=f"{tools_a_run('3h', BOUNDS.fewest_runs)} / ({tools_a_run('7d', 1)})",
        comparison=">", bound=BOUNDS.loop_factor, hold="5m", panel=(llm_agents.BOARD, "Tool calls"),
    ),
)  # fmt: skip

_MONEY: Final = (
    PromqlAlert(
        uid="llm-cost-spike", title="LLMCostSpike", severity="warning",
        summary=f"{_SERVICE} spends {_TIMES} as much in an hour as in a busy hour of the last week.",
        description="Compared with the hour that 95 % of the hours of the last week stayed below. See which model and "
                    "which user spend it, and whether answers became longer.",
        expression=(
            f"{_HOURLY_COST} / quantile_over_time(0.95, {_HOURLY_COST}[7d:1h])"
            f" and {_HOURLY_COST} >= {BOUNDS.least_cost_usd:g}"
        ),
        comparison=">", bound=BOUNDS.cost_factor, hold="5m", panel=(llm_cost.BOARD, "Cost by ${group_by:text}"),
    ),
    PromqlAlert(
        uid="llm-unpriced-model", title="LLMUnpricedModel", severity="warning",
        summary="Calls of {{ $labels.model }} ({{ $labels.provider }}) in project {{ $labels.project }} have no price.",
        description='{{ printf "%.0f" .Value }} calls of the last day used tokens and cost nothing here, so all money '
                    "is too low. Set a price for the model.",
        expression="llm_unpriced_calls", comparison=">", bound=0, hold="15m", panel=(llm_cost.BOARD, "Models"),
    ),
)  # fmt: skip

_BUDGETS: Final = (
    PromqlAlert(
        uid="llm-budget-warning", title="LLMBudgetWarning", severity="warning",
        summary=f"{_BUDGET} has reached its warning threshold.",
        description=f"{_PERCENT} of the amount of the period is spent.",
        expression=(
            "llm_budget_used_ratio >= llm_budget_warning_ratio"
            " unless llm_budget_used_ratio >= llm_budget_critical_ratio"
        ),
        comparison=">", bound=0, hold="0s", panel=(llm_cost.BOARD, llm_cost.BUDGETS),
    ),
    PromqlAlert(
        uid="llm-budget-critical", title="LLMBudgetCritical", severity="critical",
        summary=f"{_BUDGET} has reached its critical threshold.",
        description=f"{_PERCENT} of the amount of the period is spent.",
        expression="llm_budget_used_ratio >= llm_budget_critical_ratio",
        comparison=">", bound=0, hold="0s", panel=(llm_cost.BOARD, llm_cost.BUDGETS),
    ),
    PromqlAlert(
        uid="llm-budget-projected", title="LLMBudgetProjectedOver", severity="warning",
        summary=f"{_BUDGET} will not last until the end of its period.",
        description=f"At the rate so far, {_PERCENT} of the amount will be spent. The first tenth of a period is not "
                    "judged: little says little.",
        expression=(
            "llm_budget_projected_ratio and"
            f" llm_budget_used_ratio / llm_budget_projected_ratio > {BOUNDS.judged_part:g}"
        ),
        comparison=">", bound=1, hold="30m", panel=(llm_cost.BOARD, llm_cost.BUDGETS),
    ),
)  # fmt: skip

PACK: Final[tuple[tuple[str, str, tuple[PromqlAlert, ...]], ...]] = (
    ("llm-traffic", "1m", _TRAFFIC),
    ("llm-quality", "5m", _QUALITY),
    ("llm-money", "5m", _MONEY),
    ("llm-budgets", "5m", _BUDGETS),
)
"""Name of each group, how often it is evaluated, and its alerts."""

GROUPS: Final = tuple(
    AlertGroup(name, interval, tuple(alert.rule() for alert in alerts)) for name, interval, alerts in PACK
)
"""The pack as Grafana has it."""
