"""Conversion of a request to a :class:`ListQuestion`: query parameters and the search document are equivalent.

Both forms are checked as far as possible without the database, and errors name the parameter or member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from server.errors import InvalidBody, InvalidParameter
from server.http.request_params import RequestParams
from server.queries.filters.filter_params import filter_from_params
from server.queries.filters.filter_tree import And, Filter, Leaf, Not, Or, parse_filter
from server.queries.filters.filter_values import read_operand
from server.queries.filters.span_fields import FIELDS, TraceField
from server.queries.filters.time_range import LONGEST_RANGE, TimeRange, check_range
from server.queries.lists.list_question import (
    DEFAULT_LIMIT,
    INCLUDE_ALIASES,
    INCLUDES,
    LARGEST_LIMIT,
    RANK,
    TOTALS,
    VIEWS,
    ListQuestion,
    View,
    lift_to_traces,
    read_sort,
    select_fields,
)
from server.queries.lists.ranking import joined, ranking_of
from server.text.instants import EPOCH, parse_instant

Value = TypeVar("Value")

ORDERS: Final = ("asc", "desc")
TEXT: Final = FIELDS["text"]
NO_TOTAL: Final = "a search by meaning has no total; meta.meaning has the number of ranked rows"


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A caller's request before its relative times are resolved."""

    cursor: str | None
    projects: tuple[str, ...]
    explain: bool
    raw_window: tuple[str | int | None, str | int | None]
    question: Callable[[datetime], ListQuestion]
    """Resolves relative times against a moment (now, or that of the first page) and returns the question."""

    @property
    def is_relative(self) -> bool:
        """Whether the window moves with the clock."""
        return any(isinstance(side, str) and side.startswith("now") for side in self.raw_window)


# The parameters of a list beside its filters: name and sentence, for OpenAPI and the reference page.
LIST_PARAMETERS: Final[dict[str, str]] = {
    "from": "Start of the time range, included: RFC 3339 with a zone, epoch seconds or ms, or relative (now-6h).",
    "to": "End of the time range, not included.",
    "project_id": "Projects to search; default: all that the credential grants.",
    "view": "spans (default) or traces.",
    "meaning": "Rows close in meaning to this text, in any language, closest first; see Search by meaning.",
    "like": "Rows close in meaning to this one: TRACE_ID or TRACE_ID/SPAN_ID.",
    "sort_by": "Up to three fields to sort by; default ts.",
    "sort_order": "desc (default) or asc.",
    "fields": "Fields and groups of fields in each row; default: all but the large ones, and the first 1,000 "
    "characters of input_text and output_text.",
    "include": "scores (also called evaluations and feedback), children, snippets.",
    "total": "none (default), estimate, capped or exact.",
    "limit": "Rows per page, 1 to 1,000; default 50.",
    "cursor": "pagination.cursor of the previous page.",
    "explain": "true: include how the database found the rows; needs the grant `*`.",
}


def request_from_params(params: RequestParams) -> ListRequest:
    """Read the query parameters of a list. Raises a class of :mod:`server.errors` for the first fault."""
    cursor = params.text("cursor")
    projects = params.texts("project_id")
    explain = params.flag("explain")
    raw_window = (params.text("from"), params.text("to"))
    view = VIEWS[params.choice("view", tuple(VIEWS), "spans")]
    descending = params.choice("sort_order", ORDERS, "desc") == "desc"
    sort_by = params.items("sort_by")
    names = params.items("fields")
    include = _included(params.texts("include"), lambda detail: InvalidParameter.named("include", detail))
    total = params.choice("total", TOTALS, "none")
    limit = params.integer("limit", default=DEFAULT_LIMIT, low=1, high=LARGEST_LIMIT)
    ranking = _ranking(params)
    filters = params.filters()
    params.finish()
    if ranking is not None and total != "none":
        raise InvalidParameter.named("total", NO_TOTAL)
    fields = None
    if names:
        fields = _checked(lambda: select_fields(view, names), lambda detail: InvalidParameter.named("fields", detail))

    def question(now: datetime) -> ListQuestion:
        tree = joined(filter_from_params(filters, now=now), ranking)
        tree = lift_to_traces(tree) if view.name == "traces" else tree
        keys = [(name, descending) for name in sort_by or ("ts" if ranking is None else RANK,)]
        sort = _checked(
            lambda: read_sort(view, keys, tree),
            lambda detail: InvalidParameter.named("sort_by", detail),
        )
        return ListQuestion(
            view=view.name,
            window=params.window(now=now),
            filter=tree,
            sort=sort,
            fields=fields,
            previews=True,
            include=include,
            total=total,
            limit=limit,
        )

    return ListRequest(cursor, projects, explain, raw_window, question)


def _ranking(params: RequestParams) -> Leaf | None:
    """Return the requested order by meaning, if any."""
    found = []
    for name in ("meaning", "like"):
        value = params.read(name, partial(read_operand, TEXT, name, now=EPOCH), None)
        if value is not None:
            found.append(Leaf(TEXT, name, value))
    if len(found) > 1:
        raise InvalidParameter.named("like", "cannot be combined with meaning")
    return found[0] if found else None


SEARCH_MEMBERS: Final = (
    "filter",
    "from",
    "to",
    "project_id",
    "view",
    "sort",
    "fields",
    "include",
    "total",
    "limit",
    "cursor",
    "explain",
)


def request_from_document(document: Mapping[str, Any]) -> ListRequest:
    """Read a search document: the same question as JSON. Raises :class:`InvalidBody` with a JSON pointer."""
    body = _Body(document)
    cursor = body.get("cursor", str, None)
    projects = body.strings("project_id", single=True)
    explain = body.get("explain", bool, False)
    raw_window = (body.moment("from"), body.moment("to"))
    view = VIEWS[body.choice("view", tuple(VIEWS), "spans")]
    sort_keys = body.sort_keys()
    names = body.strings("fields")
    include = _included(body.strings("include"), lambda detail: InvalidBody.at("/include", detail))
    total = body.choice("total", TOTALS, "none")
    limit = body.get("limit", int, DEFAULT_LIMIT)
    if not 1 <= limit <= LARGEST_LIMIT:
        raise InvalidBody.at("/limit", f"expected a whole number from 1 to {LARGEST_LIMIT}")
    fields = None
    if "fields" in document:
        fields = _checked(lambda: select_fields(view, names), lambda detail: InvalidBody.at("/fields", detail))

    def resolve(name: str) -> TraceField | None:
        # A whole trace has no text. A ranking of traces by meaning, and the words searched with it, are about the text
        # of their spans.
        return TEXT if name == TEXT.name else view.resolve(name)

    # Fields of spans have a function of their own, since only spans have keys such as attribute.KEY.
    resolve_field = resolve if view.name == "traces" else view.resolve

    def question(now: datetime) -> ListQuestion:
        tree = None
        if document.get("filter") is not None:
            tree = parse_filter(document["filter"], now=now, resolve=resolve_field)
        ranking = _checked(lambda: ranking_of(tree), lambda detail: InvalidBody.at("/filter", detail))
        if ranking is None or ranking.rest is not None:
            _refuse_text(view, tree if ranking is None else ranking.rest)
        if ranking is not None and total != "none":
            raise InvalidBody.at("/total", NO_TOTAL)
        sort = _checked(lambda: read_sort(view, sort_keys, tree), lambda detail: InvalidBody.at("/sort", detail))
        return ListQuestion(
            view=view.name,
            window=_window(raw_window, now),
            filter=tree,
            sort=sort,
            fields=fields,
            previews=True,
            include=include,
            total=total,
            limit=limit,
        )

    return ListRequest(cursor, projects, explain, raw_window, question)


def _refuse_text(view: View, tree: Filter | None) -> None:
    """Raise :class:`InvalidBody` for the text of spans as a filter of traces."""
    if view.name == "traces" and tree is not None and any(part.field is TEXT for part in _own_leaves(tree)):
        raise InvalidBody.at("/filter", 'text is a field of spans: write {"trace": {"has": …}} around it')


def _own_leaves(tree: Filter) -> Iterator[Leaf]:
    """Yield the comparisons of the row itself, without those of spans of its trace."""
    match tree:
        case Leaf():
            yield tree
        case And(parts) | Or(parts):
            for part in parts:
                yield from _own_leaves(part)
        case Not(part):
            yield from _own_leaves(part)


class _Body:
    """Members of a search document, each checked as it is read."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def get(self, name: str, kind: type[Value], default: Any) -> Any:
        value = self.document.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidBody.at(f"/{name}", "has the wrong type")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value: str = self.get(name, str, default)
        if value not in choices:
            raise InvalidBody.at(f"/{name}", f"expected one of {', '.join(choices)}")
        return value

    def strings(self, name: str, *, single: bool = False) -> tuple[str, ...]:
        value = self.document.get(name)
        if value is None:
            return ()
        items = [value] if single and isinstance(value, str) else value
        if not isinstance(items, list) or not 1 <= len(items) <= 100 or not all(isinstance(i, str) for i in items):
            raise InvalidBody.at(f"/{name}", "expected a list of 1 to 100 texts")
        return tuple(items)

    def moment(self, name: str) -> str | int | None:
        value = self.document.get(name)
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return value
        raise InvalidBody.at(f"/{name}", "expected a time")

    def sort_keys(self) -> list[tuple[str, bool]]:
        keys: list[tuple[str, bool]] = []
        for index, item in enumerate(self.get("sort", list, [])):
            pointer = f"/sort/{index}"
            if not isinstance(item, dict) or not isinstance(item.get("field"), str) or item.keys() - {"field", "order"}:
                raise InvalidBody.at(pointer, 'expected {"field": name, "order": "asc" or "desc"}')
            order = item.get("order", "desc")
            if order not in ORDERS:
                raise InvalidBody.at(f"{pointer}/order", "expected asc or desc")
            keys.append((item["field"], order == "desc"))
        return keys


def _window(raw: tuple[str | int | None, str | int | None], now: datetime) -> TimeRange:
    moments: list[datetime | None] = []
    for name, value in zip(("from", "to"), raw, strict=True):
        if value is None:
            moments.append(None)
            continue
        try:
            moments.append(parse_instant(value, now=now, round_up=name == "to"))
        except ValueError as error:
            raise InvalidBody.at(f"/{name}", str(error)) from error
    return _checked(
        lambda: check_range(TimeRange(*moments), now=now, longest=LONGEST_RANGE),
        lambda detail: InvalidBody.at("/from", detail),
    )


def _checked(reader: Callable[[], Value], error: Callable[[str], Exception]) -> Value:
    try:
        return reader()
    except ValueError as problem:
        raise error(str(problem)) from problem


def _included(names: tuple[str, ...], error: Callable[[str], Exception]) -> frozenset[str]:
    meant = frozenset(INCLUDE_ALIASES.get(name, name) for name in names)
    if not meant <= set(INCLUDES):
        raise error(f"expected any of {', '.join(INCLUDES)}")
    return meant
