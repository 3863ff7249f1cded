"""JSON without what two readers would understand differently."""

from __future__ import annotations

import json
from typing import Any


class StrictDecoder(json.JSONDecoder):
    """Refuses duplicate members (else the last wins, elsewhere the first) and NaN and Infinity, which are not
    JSON, with ValueError. For ``json.loads(text, cls=StrictDecoder)``; deep nesting raises RecursionError."""

    def __init__(self, **_: Any) -> None:
        super().__init__(object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
