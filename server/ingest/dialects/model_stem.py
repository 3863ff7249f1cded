"""Whether two names mean one model: reports of one call spell it differently."""

from __future__ import annotations

import re

from server.text.remembered import remembered

_DEALER = re.compile(r"(?:[a-z][a-z-]*\.)+(?=[a-z])")
"""Region and vendor before the name, as Bedrock writes them: ``us.anthropic.``. No digit: ``gpt-4.1`` has no dealer."""
_EDITION = re.compile(r"(?:[-@](?:20\d{6}|20\d{2}-\d{2}-\d{2}|latest|\d{3,4}))?(?:-v\d+(?::\d+)?)?$")
_EMBEDS = re.compile(r"(?:^|[-_/.:])embed")


@remembered(4096)
def is_embedding_model(model: str) -> bool:
    """Return whether the name says that the model makes vectors, whatever the sender calls the request.

    >>> is_embedding_model("text-embedding-3-small"), is_embedding_model("amazon.titan-embed-text-v2:0")
    (True, True)
    """
    return _EMBEDS.search(model.lower()) is not None


@remembered(4096)
def model_stem(model: str) -> str:
    """Return the name without router, region, vendor, date and version.

    >>> model_stem("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"), model_stem("gpt-4.1-mini-2025-04-14")
    ('claude-haiku-4-5', 'gpt-4.1-mini')
    """
    name = model.strip().lower().rpartition("/")[2]
    dealer = _DEALER.match(name)
    if dealer is not None:
        name = name[dealer.end() :]
    return _EDITION.sub("", name, count=1) or name


def is_same_model(one: str | None, other: str | None) -> bool:
    """Return whether the names may mean one model; a span that names none may be of any."""
    return one is None or other is None or one == other or model_stem(one) == model_stem(other)
