"""The question of an export as a JSON document, so that any process can ask it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from server.queries.filters.filter_tree import parse_filter
from server.queries.filters.span_fields import TraceField
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, ListQuestion, read_sort
from server.text.instants import parse_instant


def document_of(question: ListQuestion) -> dict[str, Any]:
    """Return ``question``, without its position, as a document: :func:`question_of` reads it back."""
    return {**question.identity(), "fields": list(question.selected())}


def question_of(document: Mapping[str, Any], *, now: datetime) -> ListQuestion:
    """Return the question that ``document`` of :func:`document_of` holds."""
    view = VIEWS[document["view"]]
    tree = document["filter"] and parse_filter(document["filter"], now=now, resolve=view.resolve)
    start, end = (document[side] and parse_instant(document[side], now=now) for side in ("from", "to"))
    return ListQuestion(
        view=view.name,
        window=TimeRange(start, end),
        filter=tree,
        sort=read_sort(view, [(name, descending) for name, descending in document["sort"]], tree),
        fields=tuple(document["fields"]),
    )


def columns_of(question: ListQuestion) -> Sequence[TraceField]:
    """Return the fields that the rows of ``question`` have, in order."""
    return [VIEWS[question.view].fields[name] for name in question.selected()]
