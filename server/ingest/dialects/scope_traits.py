"""Facts about an instrumentation by the name of its scope (table: ``dialects/scopes.json``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from server.ingest.dialects.attribute_table import read_table
from server.ingest.dialects.canonical_names import FRAMEWORKS, KNOWN_PROVIDERS, canonical_provider
from server.text.remembered import remembered

_SCOPES: dict[str, dict[str, Any]] = read_table("scopes.json")["scopes"]
_PARTS = re.compile(r"[./]|instrumentation-")


@dataclass(frozen=True, slots=True)
class ScopeTraits:
    """Habits of one instrumentation."""

    span_names: tuple[tuple[str, str], ...] = ()
    """Patterns of span names and the operation that they mean, whatever the attributes say."""
    first: tuple[tuple[str, str], ...] = ()
    """Attributes and the slots that they feed for this scope alone, before every alias."""
    filled_name: str | None = None
    """Attribute with the name of an agent or tool span, whose own name is a template."""
    without_operation: str | None = None
    """Operation of a span that names none, nor usage unless log events tell of the calls."""
    exception_beats_ok: bool = False
    """True if spans are set OK before it is known how they end."""
    beside: str | None = None
    """Group of senders of which two may report a call, or a run, in traces of their own, without the vendor's id."""
    tells_last_step: bool = False
    """True if a call's span lasts over all steps of an agent and has the usage of the last, the agent's that of all."""
    provider: str | None = None
    """Provider of a span that names none: some senders lose it."""
    estimates_cost: bool = False
    """True if costs are worked out from a price list of the instrumentation, and are nobody's bill."""
    streams_apart: bool = False
    """True if a stream is told in a span of its own, after one without an answer that only opens it."""
    seconds_in: str | None = None
    """Attribute with the length in seconds of a span that is made, whole, when what it tells of has ended."""
    client_in: str | None = None
    """Where the class of the vendor's client is told: an attribute, or ``name`` for names such as ``OpenAI.chat``."""
    nameless_agent: str | None = None
    """Operation of a span that is said to be an agent and names none: the trace itself, of some senders."""
    repeats_tools: bool = False
    """True if a tool may be told once more: by its client and its server, or by a framework and an instrumentation."""
    counted_in_logs: bool = False
    """True if log events of the same sender are its calls: usage on a span that is no call repeats theirs."""
    ttft_factor: float = field(default=1000.0)
    """Milliseconds in the unit of the time to the first token where the convention has seconds."""

    def operation_of(self, span_name: str) -> str | None:
        """Return the operation that the name of a span means, None if it means nothing."""
        for pattern, operation in self.span_names:
            if fnmatchcase(span_name, pattern):
                return operation
        return None


NO_TRAITS = ScopeTraits()


@remembered(1024)
def provider_of_scope(scope_name: str) -> str | None:
    """Return the provider whose client an instrumentation is for, by the end of its name.

    >>> provider_of_scope("netra.instrumentation.openai"), provider_of_scope("@acme/instrumentation-bedrock")
    ('openai', 'aws')
    >>> provider_of_scope("openinference.instrumentation.langchain") is None
    True
    """
    end = _PARTS.split(scope_name)[-1]
    provider = canonical_provider(end)
    return provider if provider in KNOWN_PROVIDERS and end not in FRAMEWORKS and end != scope_name else None


_CLIENT_ENDINGS = re.compile(
    r"(?:Chat|Responses|Text|Document|MultiModal|Converse|Generator|Embedder|Embeddings?|Rerank|Ranker|Completion|Client|Server|Model)+$"
)


@remembered(1024)
def provider_of_client(class_name: str) -> str | None:
    """Return the provider that a framework's class calls; a method may follow.

    >>> provider_of_client("OpenAIResponses.chat"), provider_of_client("AzureOpenAIChatGenerator")
    ('openai', 'azure')
    >>> provider_of_client("CompactAndRefine.synthesize") is None
    True
    """
    client = _CLIENT_ENDINGS.sub("", class_name.partition(".")[0])
    provider = canonical_provider(client)
    return provider if provider in KNOWN_PROVIDERS and client not in FRAMEWORKS else None


@remembered(1024)
def scope_traits(scope_name: str) -> ScopeTraits:
    """Return the traits of a scope, :data:`NO_TRAITS` for one that the table does not have."""
    for pattern, traits in _SCOPES.items():
        if scope_name == pattern or (pattern.endswith("*") and scope_name.startswith(pattern[:-1])):
            return ScopeTraits(
                span_names=tuple(traits.get("span_names", {}).items()),
                first=tuple(traits.get("first", {}).items()),
                filled_name=traits.get("filled_name"),
                without_operation=traits.get("without_operation"),
                exception_beats_ok=traits.get("exception_beats_ok", False),
                beside=traits.get("beside"),
                tells_last_step=traits.get("tells_last_step", False),
                provider=traits.get("provider"),
                estimates_cost=traits.get("estimates_cost", False),
                streams_apart=traits.get("streams_apart", False),
                seconds_in=traits.get("seconds_in"),
                client_in=traits.get("client_in"),
                nameless_agent=traits.get("nameless_agent"),
                repeats_tools=traits.get("repeats_tools", False),
                counted_in_logs=traits.get("counted_in_logs", False),
                ttft_factor=1.0 if traits.get("ttft_unit") == "ms" else 1000.0,
            )
    return NO_TRAITS
