"""Recommendations computed from the data, each with its evidence.

A rule looks at the figures that ``/analytics/models`` shows and speaks only if they are significant: enough calls, a
difference that matters, and, for money, an amount that follows from prices this project has really paid. A saving that
cannot be computed is null, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Final

from server.queries.metrics.metric_answer import MetricGroup
from server.reports.report_window import ReportSource, ReportWindow, number, single

FEWEST_CALLS: Final = 20
_MEASURES: Final = (
    "calls",
    "cost",
    "error_cost",
    "cache_savings",
    "error_rate",
    "success_rate",
    "duration_p95",
    "prompt_tokens_sum",
    "cached_tokens_sum",
    "total_tokens_sum",
    "cost_per_1k_tokens",
)
_ZERO: Final = Decimal(0)

# Thresholds of the rules. Shares are fractions of one.
ERROR_RATE_HIGH: Final = 0.05
TRUNCATION_HIGH: Final = 0.05
RETRIES_HIGH: Final = 0.05
CACHE_SHARE_LOW: Final = 0.2
CACHE_SHARE_GOAL: Final = 0.5
LONG_PROMPT_TOKENS: Final = 1000
SLOWER_THAN_PEERS: Final = 2.0
SUCCESS_TOLERANCE: Final = 0.01
SMALLEST_SAVING_SHARE: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One recommendation. ``potential_savings_usd`` is for a window as long as the one that was examined."""

    kind: str
    title: str
    reason: str
    priority: str
    provider: str | None = None
    model: str | None = None
    potential_savings_usd: Decimal | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Round the estimate to nine decimals."""
        if self.potential_savings_usd is not None:
            object.__setattr__(self, "potential_savings_usd", round(self.potential_savings_usd, 9))


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """Figures of one model in the window, for one kind of operation."""

    provider: str
    model: str
    operation: str
    values: dict[str, Decimal | float | int]

    def amount(self, name: str) -> Decimal:
        """Return the figure ``name`` as Decimal; a missing one is zero."""
        return Decimal(str(self.values[name]))


@dataclass(frozen=True, slots=True)
class Findings:
    """All figures that the rules examine."""

    models: tuple[ModelFigures, ...]
    total: dict[str, Decimal]
    truncated: Decimal
    retries: Decimal

    @property
    def cost(self) -> Decimal:
        """All money of the window."""
        return self.total["cost"]


Rule = Callable[[Findings], Iterator[Recommendation]]


async def recommend(source: ReportSource, window: ReportWindow) -> dict[str, Any]:
    """Return recommendations, the largest saving first, and three scores from 0 to 1 with their derivation."""
    findings = await _look(source, window)
    found = [item for rule in RULES for item in rule(findings)]
    found.sort(key=lambda item: (-(item.potential_savings_usd or _ZERO), item.kind, item.model or ""))
    saving = min(sum((item.potential_savings_usd or _ZERO for item in found), _ZERO), findings.cost)
    slow = sum((model.amount("calls") for model in findings.models if _slower_peer(model, findings) is not None), _ZERO)
    calls = findings.total["calls"]
    scores = {
        "cost": float(1 - saving / findings.cost) if findings.cost else None,
        "performance": float(1 - slow / calls) if calls else None,
        "reliability": float(findings.total["success_rate"]) if calls else None,
    }
    known = [value for value in scores.values() if value is not None]
    return {
        "recommendations": [asdict(item) for item in found],
        "potential_savings_usd": saving,
        "scores": scores,
        "overall_score": round(sum(known) / len(known), 4) if known else None,
    }


async def _look(source: ReportSource, window: ReportWindow) -> Findings:
    answer = await source.ask(
        window.question(
            *_MEASURES, group_by=("provider", "model", "operation"), order_by="cost", limit=100, other=False
        )
    )
    total = await source.total(window, *_MEASURES, "retries")
    reasons = await source.split(window, "finish_reason", "calls", limit=50, other=False)
    truncated = sum(
        (number(single(group, "calls")) for group in reasons.groups if group.labels["finish_reason"] == "length"),
        _ZERO,
    )
    return Findings(
        models=tuple(_figures(group) for group in answer.groups if number(single(group, "calls")) > 0),
        total={name: number(single(total, name)) for name in _MEASURES},
        truncated=truncated,
        retries=number(single(total, "retries")),
    )


def _figures(group: MetricGroup) -> ModelFigures:
    return ModelFigures(
        provider=group.labels["provider"] or "",
        model=group.labels["model"] or "",
        operation=group.labels["operation"] or "",
        values={name: number(single(group, name)) for name in _MEASURES},
    )


def cheaper_model(findings: Findings) -> Iterator[Recommendation]:
    """Recommend another model for the same kind of work that is about as reliable, for less money per token."""
    for model in findings.models:
        peers = [
            peer
            for peer in findings.models
            if peer.operation == model.operation
            and peer.model != model.model
            and peer.amount("calls") >= FEWEST_CALLS
            and _ZERO < peer.amount("cost_per_1k_tokens") < model.amount("cost_per_1k_tokens")
            and peer.amount("success_rate") >= model.amount("success_rate") - Decimal(str(SUCCESS_TOLERANCE))
        ]
        if not peers or model.amount("calls") < FEWEST_CALLS:
            continue
        # The model nearest in price is the smallest step, and the most likely to be good enough.
        peer = max(peers, key=lambda item: item.amount("cost_per_1k_tokens"))
        saving = model.amount("cost") - model.amount("total_tokens_sum") / 1000 * peer.amount("cost_per_1k_tokens")
        if findings.cost and saving / findings.cost >= SMALLEST_SAVING_SHARE:
            yield Recommendation(
                kind="cheaper_model",
                title=f"Try {peer.model} for some of what {model.model} does",
                reason=(
                    f"{peer.model} costs {_usd(peer.amount('cost_per_1k_tokens'))} per 1k tokens here, {model.model} "
                    f"{_usd(model.amount('cost_per_1k_tokens'))}, and succeeds about as often. Your evaluations "
                    "decide whether its answers are good enough: compare the scores of both."
                ),
                priority="high" if saving / findings.cost >= Decimal("0.1") else "medium",
                provider=model.provider,
                model=model.model,
                potential_savings_usd=saving,
                evidence={
                    "operation": model.operation,
                    "alternative": peer.model,
                    "cost_usd": model.amount("cost"),
                    "cost_per_1k_tokens_usd": model.amount("cost_per_1k_tokens"),
                    "alternative_cost_per_1k_tokens_usd": peer.amount("cost_per_1k_tokens"),
                    "success_rate": model.amount("success_rate"),
                    "alternative_success_rate": peer.amount("success_rate"),
                },
            )


def prompt_caching(findings: Findings) -> Iterator[Recommendation]:
    """Recommend caching if long prompts are hardly ever read from the provider's cache."""
    for model in findings.models:
        calls, prompt, cached = (model.amount(name) for name in ("calls", "prompt_tokens_sum", "cached_tokens_sum"))
        if (
            calls < FEWEST_CALLS
            or prompt / calls < LONG_PROMPT_TOKENS
            or cached / prompt >= Decimal(str(CACHE_SHARE_LOW))
        ):
            continue
        saving = None
        if cached and model.amount("cache_savings") > 0:
            # The average saving per cached token on this model so far, times the tokens by which the share misses the
            # goal.
            saving = model.amount("cache_savings") / cached * (prompt * Decimal(str(CACHE_SHARE_GOAL)) - cached)
        yield Recommendation(
            kind="prompt_caching",
            title=f"Let {model.model} read more of its prompts from the cache",
            reason=(
                f"Prompts have {round(prompt / calls)} tokens on average, and {cached / prompt:.0%} of them come "
                "from the cache. Put the part that stays the same first, and mark it for caching where the "
                "provider asks for it."
            ),
            priority="medium",
            provider=model.provider,
            model=model.model,
            potential_savings_usd=saving,
            evidence={"calls": calls, "prompt_tokens": prompt, "cached_tokens": cached},
        )


def failed_calls(findings: Findings) -> Iterator[Recommendation]:
    """Recommend a look at a model that fails often, or whose failures cost money."""
    for model in findings.models:
        rate = model.amount("error_rate")
        if model.amount("calls") >= FEWEST_CALLS and rate > Decimal(str(ERROR_RATE_HIGH)):
            yield Recommendation(
                kind="failed_calls",
                title=f"Look at why {model.model} fails",
                reason=f"{rate:.1%} of its calls failed; the facet error_type shows the kinds of error.",
                priority="high",
                provider=model.provider,
                model=model.model,
                potential_savings_usd=model.amount("error_cost"),
                evidence={"error_rate": rate, "error_cost_usd": model.amount("error_cost")},
            )


def truncated_answers(findings: Findings) -> Iterator[Recommendation]:
    """Recommend a higher limit if answers end at the limit of tokens."""
    calls = findings.total["calls"]
    if calls >= FEWEST_CALLS and findings.truncated / calls > Decimal(str(TRUNCATION_HIGH)):
        yield Recommendation(
            kind="truncated_answers",
            title="Raise the limit of output tokens, or ask for shorter answers",
            reason=f"{findings.truncated / calls:.1%} of the answers were cut at the limit of tokens.",
            priority="medium",
            evidence={"calls": calls, "truncated": findings.truncated},
        )


def repeated_calls(findings: Findings) -> Iterator[Recommendation]:
    """Recommend a look at calls that are repeated after failures."""
    calls = findings.total["calls"]
    if calls >= FEWEST_CALLS and findings.retries / calls > Decimal(str(RETRIES_HIGH)):
        yield Recommendation(
            kind="repeated_calls",
            title="Look at the retried calls",
            reason=f"{findings.retries / calls:.1%} of the calls repeat one that failed before.",
            priority="medium",
            evidence={"calls": calls, "retries": findings.retries},
        )


def slow_model(findings: Findings) -> Iterator[Recommendation]:
    """Recommend a faster model for the same kind of work."""
    for model in findings.models:
        peer = _slower_peer(model, findings)
        if peer is not None:
            yield Recommendation(
                kind="slow_model",
                title=f"{peer.model} answers faster than {model.model}",
                reason=(
                    f"95 % of its calls end within {peer.amount('duration_p95'):.0f} ms; of {model.model}'s within "
                    f"{model.amount('duration_p95'):.0f} ms."
                ),
                priority="low",
                provider=model.provider,
                model=model.model,
                evidence={
                    "operation": model.operation,
                    "alternative": peer.model,
                    "duration_p95_ms": model.amount("duration_p95"),
                    "alternative_duration_p95_ms": peer.amount("duration_p95"),
                },
            )


def _slower_peer(model: ModelFigures, findings: Findings) -> ModelFigures | None:
    """Return the fastest model for the same kind of work, if ``model`` is much slower than it."""
    if model.amount("calls") < FEWEST_CALLS:
        return None
    peers = [
        peer
        for peer in findings.models
        if peer.operation == model.operation and peer.model != model.model and peer.amount("calls") >= FEWEST_CALLS
    ]
    if not peers:
        return None
    fastest = min(peers, key=lambda peer: peer.amount("duration_p95"))
    slower = model.amount("duration_p95") > fastest.amount("duration_p95") * Decimal(str(SLOWER_THAN_PEERS))
    return fastest if slower else None


RULES: Final[tuple[Rule, ...]] = (
    cheaper_model,
    prompt_caching,
    failed_calls,
    truncated_answers,
    repeated_calls,
    slow_model,
)


def _usd(amount: Decimal) -> str:
    return f"${amount:.6f}".rstrip("0").rstrip(".")
