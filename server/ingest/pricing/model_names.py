"""The names under which the price catalogue is asked for a model, in order: as reported first, then taken apart.

Routers, clouds and frameworks put heads, paths and suffixes round a model's name, and name themselves as the provider.
The tables are ``dialects/price_names.json`` and ``dialects/providers.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from server.ingest.dialects.attribute_table import read_table
from server.ingest.dialects.canonical_names import FRAMEWORKS, KNOWN_PROVIDERS, canonical_provider

NAMES: Final = read_table("price_names.json")
MAKERS: Final[tuple[str, ...]] = tuple(NAMES["makers"])

_PATHS: Final = [re.compile(f"(?:.*?){path}" if not path.startswith("^") else path) for path in NAMES["paths"]]
_SUFFIX: Final = re.compile(f":(?:{'|'.join(NAMES['suffixes'])})$")
_EDITION: Final = re.compile(NAMES["edition"])
_NUMBER_FIRST: Final = re.compile(
    r"(?<=claude-)(?P<number>[4-9](?:[.-]\d)?)-(?P<family>sonnet|opus|haiku)(?:-thinking)?$"
)
"""Names of models of Anthropic's as editors write them, with the number first: ``claude-4.5-sonnet``."""
_BEDROCK: Final = re.compile(rf"^(?:[a-z]{{2,6}}(?:-gov)?\.)?(?:{'|'.join(NAMES['bedrock_vendors'])})\.[a-z]")
_CLOSED_WEIGHTS: Final = tuple(NAMES["closed_weights"])

_COLON_HEADS: Final = frozenset({"ft", "arn"})

Name = tuple[str | None, str]
"""Provider of the catalogue, or None to look for the maker by the model alone; and the model."""


def catalogue_names(provider: str | None, model: str) -> Iterator[Name]:
    """Yield each way to ask for ``model``. ``provider`` is canonical; one that only passes calls on is left out.

    >>> list(catalogue_names("litellm", "openrouter/anthropic/claude-haiku-4-5"))[:2] [('openrouter',
    'anthropic/claude-haiku-4-5'), ('anthropic', 'claude-haiku-4-5')]
    """
    seen: set[Name] = set()
    for name in _candidates(provider, model.strip()):
        if name not in seen:
            seen.add(name)
            yield name


def _candidates(provider: str | None, model: str) -> Iterator[Name]:
    host = None if provider is None or provider in FRAMEWORKS else provider
    for form in _forms(model):
        head, slash, rest = form.partition("/")
        head_provider = canonical_provider(head) if slash else None
        is_known = head_provider in KNOWN_PROVIDERS and head_provider not in FRAMEWORKS
        if host is not None:
            yield _catalogue_id(host), form
            if head_provider == host:
                yield from _candidates(host, rest)
            if host == "aws" and form.startswith("claude-"):
                yield "aws", f"anthropic.{form}"
        if form.startswith("accounts/fireworks/"):
            yield "fireworks", form
        if _BEDROCK.match(form.lower()):
            yield "aws", form
        if is_known and head_provider is not None and head_provider != host:
            yield _catalogue_id(head_provider), rest
            if "/" in rest or host is None:
                yield from _candidates(head_provider, rest)
        elif head_provider in FRAMEWORKS:
            yield from _candidates(None, rest)
        elif not slash and (not _may_self_host(host) or form.lower().startswith(_CLOSED_WEIGHTS)):
            yield ("openai", form) if form.startswith("ft:") else (None, form)


def _may_self_host(host: str | None) -> bool:
    """Return whether a model with open weights may run on the user's own machines, where no vendor's price holds."""
    return host is not None and (host in NAMES["self_hosting"] or host not in KNOWN_PROVIDERS)


def _forms(model: str) -> Iterator[str]:
    """Yield the name as it is, without the path before it, and without what a router reads of its end."""
    yield model
    head, colon, rest = model.partition(":")
    if colon and rest and head.lower() not in _COLON_HEADS and canonical_provider(head) in KNOWN_PROVIDERS:
        model = f"{head}/{rest}"  # as pydantic-ai and LangChain write provider and model
        yield model
    for path in _PATHS:
        found = path.match(model)
        if found is not None and found.end() < len(model):
            model = model[found.end() :]
            yield model
    swapped = _NUMBER_FIRST.sub(r"\g<family>-\g<number>", model, count=1)
    if swapped != model:
        model = swapped
        yield model
    if _SUFFIX.search(model) is not None:
        model = _SUFFIX.sub("", model)
        yield model
    if "@" in model:
        yield model.replace("@", "-")
    if _EDITION.search(model) is not None:  # Google's number of a model that does not change any more
        yield _EDITION.sub("", model)


def provider_of_model(model: str) -> str | None:
    """Return the provider in the head of a model's name, as routers write it; None for a name without one.

    >>> provider_of_model("openai/gpt-4o"), provider_of_model("my-team/model"), provider_of_model("gpt-4o")
    ('openai', None, None)
    """
    head, slash, _ = model.partition("/")
    provider = canonical_provider(head) if slash else ""
    return provider if provider in KNOWN_PROVIDERS and provider not in FRAMEWORKS else None


def _catalogue_id(provider: str) -> str:
    name: str = NAMES["providers"].get(provider, provider)
    return name
