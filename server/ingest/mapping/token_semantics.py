"""One meaning for token counts, whatever the emitter meant.

``prompt_tokens`` includes cache reads and writes, ``completion_tokens`` includes reasoning. OpenTelemetry and
OpenInference report it like that; Anthropic's API and emitters that copy its names report the input *without* the
cache. The rule that was applied is stored with the row:

1. the input is reported inclusive: left as it is;
2. the emitter is known to report Anthropic's exclusive input: reads and writes are added;
3. nothing is known, or the known rule is impossible: the numbers decide. Cache counts larger than the input, or a
   total that only fits with them added, can only mean that the input is exclusive.

docs/explanation/token-semantics.md has the cases.
"""

from __future__ import annotations

from dataclasses import dataclass

INCLUSIVE, EXCLUSIVE, INFERRED = 1, 2, 3

_INCLUSIVE_KEYS = frozenset(
    {
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
    }
)
"""The dotted names were introduced with the definition that the input includes them (semantic conventions 1.38)."""

_EXCLUSIVE_KEYS = frozenset({"gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cache_creation_input_tokens"})
"""The names of Anthropic's API under a prefix: copied from its answers unchanged."""

_ANTHROPIC_HOSTS = frozenset({"aws", "google-vertex", "google", "azure", "databricks"})
"""Clouds that also serve Anthropic's models, with Anthropic's way of counting."""


@dataclass(slots=True)
class TokenCounts:
    """The counts of one span, before or after normalisation."""

    prompt: int | None
    completion: int | None
    total: int | None
    cached: int | None
    cache_write: int | None
    reasoning: int | None


def normalise_tokens(
    counts: TokenCounts,
    *,
    dialect: str,
    provider: str | None,
    model: str | None,
    cache_keys: tuple[str | None, str | None],
    semantics: str | None,
) -> int | None:
    """Convert ``counts`` to the inclusive form; return the rule applied, None if there are no counts.

    ``cache_keys`` are the attributes that cache reads and writes came from, ``semantics`` the value of
    ``gen_ai.token.semantics``.
    """
    if counts.prompt is None and counts.completion is None and counts.total is None:
        return None
    cache = (counts.cached or 0) + (counts.cache_write or 0)
    rule = _rule(counts, cache, dialect, provider, model, cache_keys, semantics)
    reported_prompt = counts.prompt
    if counts.prompt is not None and cache:
        if rule == INCLUSIVE and semantics is None and cache > counts.prompt:
            rule = INFERRED
        if rule == EXCLUSIVE or (rule == INFERRED and _is_beside(cache, counts.prompt, counts)):
            counts.prompt += cache
    if counts.reasoning and counts.completion is not None and _is_beside(counts.reasoning, counts.completion, counts):
        counts.completion += counts.reasoning
    _complete(counts, reported_prompt)
    return rule


def _is_beside(part: int, whole: int, counts: TokenCounts) -> bool:
    """Return whether ``part`` cannot be in ``whole``: it is larger, or the reported total has room for both."""
    if part > whole:
        return True
    if counts.total is None or counts.prompt is None or counts.completion is None:
        return False
    left_over = counts.total - counts.prompt - counts.completion
    return left_over == part or (left_over > part and left_over == _parts(counts))


def _parts(counts: TokenCounts) -> int:
    return (counts.cached or 0) + (counts.cache_write or 0) + (counts.reasoning or 0)


def _rule(
    counts: TokenCounts,
    cache: int,
    dialect: str,
    provider: str | None,
    model: str | None,
    cache_keys: tuple[str | None, str | None],
    semantics: str | None,
) -> int:
    if semantics == "inclusive" or dialect == "openinference":
        return INCLUSIVE
    if semantics == "exclusive":
        return EXCLUSIVE
    if cache:
        if any(key in _INCLUSIVE_KEYS for key in cache_keys):
            return INCLUSIVE
        if _is_anthropic(provider, model) and (
            dialect == "genai_a" or any(key in _EXCLUSIVE_KEYS for key in cache_keys)
        ):
            return EXCLUSIVE
    elif dialect in ("genai_b", "genai_c"):
        return INCLUSIVE
    return INFERRED


def _is_anthropic(provider: str | None, model: str | None) -> bool:
    if provider == "anthropic":
        return True
    named = model is not None and ("claude" in model.lower() or "anthropic" in model.lower())
    return named and (provider is None or provider in _ANTHROPIC_HOSTS)


def _complete(counts: TokenCounts, reported_prompt: int | None) -> None:
    """Derive missing counts from the others. A total below its parts is replaced by theirs; one part can follow from
    the total.
    """
    if counts.total is not None:
        if counts.prompt is None and counts.completion is not None and counts.total >= counts.completion:
            counts.prompt = counts.total - counts.completion
        elif counts.completion is None and reported_prompt is not None and counts.total >= reported_prompt:
            counts.completion = counts.total - reported_prompt
    if counts.prompt is None and counts.completion is None:
        return
    parts = (counts.prompt or 0) + (counts.completion or 0)
    if counts.total is None or counts.total < parts:
        counts.total = parts
