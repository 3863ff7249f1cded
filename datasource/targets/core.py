"""The common arguments of every family of targets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasource.panels.target_question import TargetQuestion
from server.semantic.meaning_search import MeaningSearch
from server.storage.database import Database
from server.storage.row_scope import RowScope

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Core:
    """The query core for targets: the database, and the rows that the caller may see."""

    database: Database
    scope: RowScope
    meaning: MeaningSearch | None = None
    """None: search by meaning is not configured."""


Evaluate = Callable[[Core, TargetQuestion], Awaitable[list[Frame]]]
"""Answers one question with frames that have its refId."""

Permissions = Callable[[TargetQuestion], Mapping[str, str]]
"""The scopes that a question needs beyond its target's own, each with the reason; raises if the question is
impossible.
"""


@dataclass(frozen=True, slots=True)
class Family:
    """Functions that answer one family of targets."""

    evaluate: Evaluate
    permissions: Permissions = lambda question: {}
