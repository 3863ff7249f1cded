"""Canonical providers and operations (tables: ``dialects/providers.json``, ``dialects/operations.json``)."""

from __future__ import annotations

import re

from server.ingest.dialects.attribute_table import read_table
from server.text.remembered import remembered

_provider_table = read_table("providers.json")
_providers = _provider_table["providers"]
_HOSTS: dict[str, str] = _provider_table["hosts"]
_HOST = re.compile(r"^(?:(?:[a-z][a-z0-9+.-]*:)?//)?([^/:?#]*).*$", re.DOTALL)
_operations = read_table("operations.json")

_PROVIDERS: dict[str, str] = {alias: name for name, aliases in _providers.items() for alias in (name, *aliases)}
_API_NAMES = frozenset({"chat", "completion", "responses", "messages", "embedding", "image"})
"""The suffixes that the AI SDK puts behind the name of a provider."""
_OPERATIONS: dict[str, str] = {}
_OPERATION_PREFIXES: list[tuple[str, str]] = []
for _name, _values in _operations["operations"].items():
    for _value in _values:
        if _value.endswith("*"):
            _OPERATION_PREFIXES.append((_value[:-1], _name))
        else:
            _OPERATIONS[_value] = _name

GENERATION_OPERATIONS: frozenset[str] = frozenset(_operations["generation"])
"""Operations that are one call of one model; only their tokens and money are counted."""

USAGE_HOLDERS: frozenset[str] = frozenset(_operations["usage_holders"])
"""Operations that are no model call; usage on them counts where no call below reports any."""

TRANSPARENT_OPERATIONS: frozenset[str] = frozenset(_operations["transparent"])
"""Spans that may be between two reports of one call, such as an HTTP request."""

BOUNDARY_OPERATIONS: frozenset[str] = frozenset(_operations["boundaries"])
"""Spans under which another call is made, not the same one again."""

OTHER_REQUESTS: tuple[str, ...] = tuple(_operations["other_requests"])
"""Patterns of span names of a vendor's client that asks for something other than an answer."""

NAMING_OPERATIONS: frozenset[str] = frozenset(_operations["naming"])
"""Raw operation names behind which the name of a span has that of an agent or a tool."""

METHODS: dict[str, frozenset[str]] = {
    "agent": frozenset(_operations["agent_methods"]),
    "tool": frozenset(_operations["tool_methods"]),
}
"""Methods in front of which the name of a span has that of an agent or a tool: ``planner.run``."""

OPERATIONS_WITHOUT_USAGE: frozenset[str] = frozenset(_operations["without_usage"])
"""Raw operation names that repeat the usage of an earlier call."""

FRAMEWORKS: frozenset[str] = frozenset(_provider_table["frameworks"])
"""Names of frameworks and gateways, which do not bill."""

KNOWN_PROVIDERS: frozenset[str] = frozenset(_providers)
OPERATION_TYPES: frozenset[str] = frozenset(_operations["operations"])


@remembered(4096)
def canonical_provider(raw: str) -> str:
    """Return the canonical name of a provider; an unknown one in lower case.

    >>> canonical_provider("openai.chat"), canonical_provider("gcp.vertex_ai"), canonical_provider("My-LLM") ('openai',
    'google-vertex', 'my-llm')
    """
    name = raw.strip().lower()
    head = name
    while head:
        known = _PROVIDERS.get(head)
        if known is not None:
            return known
        head = head.rpartition(".")[0]
    if "." in name:
        host = _HOST.sub(r"\1", name, count=1)
        found = next(
            (provider for end, provider in _HOSTS.items() if host == end or host.endswith((f".{end}", f"-{end}"))), None
        )
        if found is not None:
            return found
    service = name.rpartition(".")[2]
    return name.removesuffix(f".{service}") if service in _API_NAMES else name


def operation_family(operation: str) -> str:
    """Return the kind of answer: a chat and a completion may be two names of one call, a chat and an embedding are
    not.
    """
    return "chat" if operation == "completion" else operation


@remembered(4096)
def canonical_operation(raw: str) -> str | None:
    """Return the canonical operation of a raw value, None if the table does not have it."""
    value = raw.strip().strip('"').lower()
    known = _OPERATIONS.get(value)
    if known is None:
        vendor, _, method = value.partition(".")
        known = _OPERATIONS.get(method) if vendor in KNOWN_PROVIDERS else None
    if known is not None:
        return known
    return next((name for prefix, name in _OPERATION_PREFIXES if value.startswith(prefix)), None)
