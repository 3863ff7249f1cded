"""One row of the tables of operations: input and output of a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.rest.openapi.schemas import Schema

Parameter = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row. ``data`` is the content of the envelope, ``statuses`` are those of success."""

    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    body_types: tuple[str, ...] = ("application/json",)
    data: Schema | None = None
    is_paged: bool = False
    statuses: tuple[int, ...] = (200,)
    media_types: tuple[str, ...] = ()
    """Media type of the file that the route answers with instead of the envelope."""
    is_conditional: bool = False
    """Whether answers have an entity tag, so that the route may answer 304."""


def query(name: str, schema: Schema, description: str) -> Parameter:
    """Return one optional query parameter."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
