"""One meaning for token counts, whatever the emitter meant.

``prompt_tokens`` includes cache reads and writes, ``completion_tokens`` includes reasoning. OpenTelemetry and
OpenInference report it like that; Anthropic's API and emitters that copy its names report the input *without* the
cache, and some instrumentations write the one under the names of the other. The deciding rule, in this order, is stored
with the row:

4. the known habit of the instrumentation, by the name of its scope;
5. the reported total: it fits one reading and not the other;
1. the convention that the span follows includes the cache: the input is left as it is;
2. it excludes the cache: reads and writes are added;
3. nothing is known, or the known rule is impossible: cache counts larger than the input can only mean that it
   excludes them.

docs/explanation/token-semantics.md has the cases; ``dialects/token_habits.json`` the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from server.ingest.dialects.attribute_table import read_table

INCLUSIVE, EXCLUSIVE, INFERRED, KNOWN_SCOPE, PROVEN = 1, 2, 3, 4, 5

USAGE_RULES: Final[Mapping[int, str]] = {
    INCLUSIVE: "the convention of the span has the cache in the input",
    EXCLUSIVE: "the convention of the span leaves the cache out of the input, to which it was added",
    INFERRED: "unknown; the cache was added only if it was larger than the input",
    KNOWN_SCOPE: "the instrumentation is known to count so",
    PROVEN: "the reported numbers fit one reading only",
}
"""Meaning of each ``usage_rule``."""

_HABITS = read_table("token_habits.json")
_SCOPES: dict[str, str] = _HABITS["scopes"]
_REASONING_AGAIN: dict[str, list[str]] = _HABITS["reasoning_added_again"]
_REASONING_BESIDE: dict[str, list[str]] = _HABITS["reasoning_beside"]
_INCLUSIVE_KEYS = frozenset(_HABITS["inclusive_keys"])
_INCLUSIVE_ENDINGS = tuple(_HABITS["inclusive_endings"])
_EXCLUSIVE_OF_ANTHROPIC = frozenset(_HABITS["exclusive_of_anthropic"])
_ANSWERS_OF_ANTHROPIC = tuple(_HABITS["answers_of_anthropic"])
_ANSWERS_OF_CONVERSE = tuple(_HABITS["answers_of_converse"])
_EXCLUSIVE_INPUTS = frozenset(_HABITS["exclusive_inputs"])
_EXCLUSIVE_OUTPUTS = frozenset(_HABITS["exclusive_outputs"])
FLAT_PREFIXES: Final = tuple(_HABITS["flat_prefixes"])
"""Counts under these names are beside the input or output, and not part of it."""

_INCLUSIVE_DIALECTS = frozenset({"genai_b", "genai_c", "openinference"})
_ANTHROPIC_HOSTS = frozenset({"aws", "google-vertex", "google", "azure", "databricks"})
"""Clouds that also serve Anthropic's models, with Anthropic's way of counting."""
_GOOGLE = frozenset({"google", "google-vertex"})


@dataclass(slots=True)
class TokenCounts:
    """The counts of one span, before or after normalisation."""

    prompt: int | None
    completion: int | None
    total: int | None
    cached: int | None
    cache_write: int | None
    reasoning: int | None
    media_beside_input: int = 0
    """Tokens of other media that the span counts beside its input."""
    media_beside_output: int = 0

    @property
    def beside_input(self) -> int:
        """All that may be in the input or beside it."""
        return (self.cached or 0) + (self.cache_write or 0) + self.media_beside_input

    @property
    def beside_output(self) -> int:
        """All that may be in the output or beside it."""
        return (self.reasoning or 0) + self.media_beside_output


@dataclass(slots=True)
class CountEvidence:
    """Further evidence of a span about the meaning of its counts."""

    dialect: str
    provider: str | None = None
    model: str | None = None
    scope: str = ""
    semantics: str | None = None
    """The value of ``gen_ai.token.semantics``."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """The attribute that each column came from."""
    raw_prompt: int | None = None
    """The input as the vendor's answer had it, where the span carries that too."""

    @property
    def is_anthropic(self) -> bool:
        """Whether the call is of a model that Anthropic counts for."""
        if self.provider == "anthropic":
            return True
        named = self.model is not None and ("claude" in self.model.lower() or "anthropic" in self.model.lower())
        return named and (self.provider is None or self.provider in _ANTHROPIC_HOSTS)

    @property
    def is_gemini(self) -> bool:
        """Whether Google counted: thoughts are in the total alone, and the cache is in the input."""
        return self.provider in _GOOGLE and not (self.model is not None and "claude" in self.model.lower())


def normalise_tokens(counts: TokenCounts, evidence: CountEvidence) -> int | None:
    """Put ``counts`` into the inclusive form; return the rule applied, None where there are no counts."""
    if counts.prompt is None and counts.completion is None and counts.total is None:
        return None
    cache = counts.beside_input
    reported_prompt = counts.prompt
    if not cache and evidence.semantics is None:
        rule = INCLUSIVE if evidence.dialect in _INCLUSIVE_DIALECTS else INFERRED
    else:
        rule, adds = _rule(counts, evidence, cache)
    if counts.prompt is not None and cache:
        if not adds and evidence.semantics is None and cache > counts.prompt:
            rule, adds = INFERRED, True
        if adds:
            counts.prompt += cache
    _normalise_output(counts, evidence)
    _complete(counts, reported_prompt)
    return rule


def _rule(counts: TokenCounts, evidence: CountEvidence, cache: int) -> tuple[int, bool]:
    """Return the rule, and whether by it the cache is to be added."""
    if evidence.semantics in ("inclusive", "exclusive"):
        return (EXCLUSIVE, True) if evidence.semantics == "exclusive" else (INCLUSIVE, False)
    if not cache:
        return (INCLUSIVE if evidence.dialect in _INCLUSIVE_DIALECTS else INFERRED), False
    habit = _SCOPES.get(evidence.scope) or _SCOPES.get(f"{evidence.scope} {evidence.provider}")
    if habit == "vendor":
        habit = "exclusive" if evidence.is_anthropic or evidence.provider == "aws" else "inclusive"
    if habit is not None:
        return KNOWN_SCOPE, habit == "exclusive"
    is_beside = _proof(counts, evidence)
    if is_beside is not None:
        return PROVEN, is_beside
    convention = _convention(evidence)
    if convention is not None:
        return convention, convention == EXCLUSIVE
    return INFERRED, False


def _proof(counts: TokenCounts, evidence: CountEvidence) -> bool | None:
    """Return what the numbers prove: True, the cache is beside the input; False, in it; None, nothing."""
    cache, rest = counts.beside_input, counts.beside_output
    if counts.prompt is None:
        return None
    if evidence.raw_prompt is not None and counts.prompt in (evidence.raw_prompt, evidence.raw_prompt + cache):
        return counts.prompt == evidence.raw_prompt
    if counts.completion is None or counts.total is None or evidence.is_gemini:
        return None
    left_over = counts.total - counts.prompt - counts.completion
    is_inside, is_beside = left_over in (0, rest), left_over in (cache, cache + rest)
    return is_beside if is_inside != is_beside else None


def _convention(evidence: CountEvidence) -> int | None:
    sources = evidence.sources
    keys = [sources[column] for column in ("cached_tokens", "cache_write_tokens") if column in sources]
    if any(key in _INCLUSIVE_KEYS or key.endswith(_INCLUSIVE_ENDINGS) for key in keys):
        return INCLUSIVE
    if sources.get("prompt_tokens") in _EXCLUSIVE_INPUTS:
        return EXCLUSIVE
    # The vendor's own words: the path inside a recorded answer, which follows a space, or a usage that was copied.
    if any((" " in key or key.startswith(FLAT_PREFIXES)) and key.endswith(_ANSWERS_OF_CONVERSE) for key in keys):
        return EXCLUSIVE
    if evidence.dialect == "openinference":
        return INCLUSIVE
    if evidence.is_anthropic and any(" " in key and key.endswith(_ANSWERS_OF_ANTHROPIC) for key in keys):
        return EXCLUSIVE
    if evidence.is_anthropic and (evidence.dialect == "genai_a" or any(key in _EXCLUSIVE_OF_ANTHROPIC for key in keys)):
        return EXCLUSIVE
    return None


def _normalise_output(counts: TokenCounts, evidence: CountEvidence) -> None:
    """Add reasoning that was reported beside the output to it; take back one that was added twice."""
    if counts.completion is None:
        return
    rest = counts.beside_output
    if not rest and evidence.provider not in _GOOGLE:
        return
    left_over = None
    if counts.total is not None and counts.prompt is not None:
        left_over = counts.total - counts.prompt - counts.completion
    if not rest:
        if evidence.is_gemini and left_over is not None and left_over > 0:
            counts.reasoning = left_over
            counts.completion += left_over
        return
    is_flat = evidence.sources.get("completion_tokens") in _EXCLUSIVE_OUTPUTS or (
        evidence.provider in _REASONING_BESIDE.get(evidence.scope, ())
    )
    if rest > counts.completion or left_over == rest or (is_flat and left_over is None):
        counts.completion += rest
    elif (
        evidence.provider not in _REASONING_AGAIN.get(evidence.scope, (evidence.provider,))
        and counts.reasoning
        and left_over in (None, -counts.reasoning)
    ):
        counts.completion -= counts.reasoning


def _complete(counts: TokenCounts, reported_prompt: int | None) -> None:
    """Fill what follows from the others. A total below its parts is theirs; one part can follow from the total."""
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
