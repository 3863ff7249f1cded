"""A question for a list of spans or traces, as one value.

REST, Grafana and exports build a :class:`ListQuestion`; :mod:`server.queries.lists.list_reader` answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from server.queries.filters.filter_tree import And, FieldKey, Filter, Has, Leaf, Not, Or, canonical, leaves
from server.queries.filters.filter_values import shown
from server.queries.filters.operators import SEARCHES
from server.queries.filters.span_fields import FIELDS, TraceField, field_named
from server.queries.filters.time_range import TimeRange
from server.queries.lists.keyset import Position
from server.queries.lists.ranking import joined, ranking_of
from server.queries.lists.summary_fields import SUMMARY_FIELDS, summary_field_named
from server.text.instants import format_instant
from server.text.suggestion import suggest

DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 1000
MOST_SORT_KEYS: Final = 3
PREVIEW_LENGTH: Final = 1000
RANK: Final = "rank"
INCLUDES: Final = ("scores", "children", "snippets")
INCLUDE_ALIASES: Final = {"evaluations": "scores", "feedback": "scores"}
"""Names that other APIs use for the same extras."""
TOTALS: Final = ("none", "estimate", "capped", "exact")


_NONE: Final = object()


@dataclass(frozen=True, slots=True)
class View:
    """One kind of list rows."""

    name: str
    table: str
    fields: Mapping[str, TraceField]
    resolve: Callable[[str], TraceField | None]
    tie_breakers: tuple[str, ...]
    """Fields that are unique together. They end every order, so that no two rows are equal in it."""
    is_partitioned: bool
    sentence: str
    time_indexes: Mapping[str, Any]
    """Fields with an index that has the rows of one value in the order of time, either for any value (None) or for the
    value given here.
    """

    default_fields: tuple[str, ...] = field(init=False)
    """The fields of rows if no ``fields`` are named."""
    previewed_fields: tuple[str, ...] = field(init=False)
    """Further fields; rows may have their first characters."""

    def __post_init__(self) -> None:
        items = self.fields.items()
        object.__setattr__(self, "default_fields", tuple(name for name, item in items if item.is_default))
        object.__setattr__(self, "previewed_fields", tuple(name for name, item in items if item.is_previewed))

    def keeps_time_order(self, tree: Filter | None) -> bool:
        """Return whether an index has the rows that pass ``tree`` in the order of time, whatever its values."""
        match tree:
            case None:
                return True
            case Leaf(TraceField(name=name), "eq", value) | Leaf(TraceField(name=name), "in", (value,)):
                served = self.time_indexes.get(name, _NONE)
                return value is not None and (served is None or value == served)
            case _:
                return False

    def sortable(self) -> tuple[str, ...]:
        """Return the names that ``sort_by`` takes."""
        return tuple(name for name, item in self.fields.items() if item.is_sortable)


VIEWS: Final[dict[str, View]] = {
    view.name: view
    for view in (
        View(
            name="spans",
            table="llm_traces",
            fields=FIELDS,
            resolve=field_named,
            tie_breakers=("ts", "trace_id", "span_id", "project_id"),
            is_partitioned=True,
            sentence="One row per span.",
            time_indexes={
                "model": None,
                "session_id": None,
                "user_id": None,
                "status_code": "ERROR",
                "has_error": True,
            },
        ),
        View(
            name="traces",
            table="trace_summaries",
            fields=SUMMARY_FIELDS,
            resolve=summary_field_named,
            tie_breakers=("ts", "trace_id", "project_id"),
            is_partitioned=False,
            sentence="One row per trace, with sums over its model calls.",
            time_indexes={"session_id": None, "user_id": None},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order: the name of a field, or ``rank``."""

    field: str
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuestion:
    """Rows, order, fields and starting position of a list."""

    view: str = "spans"
    window: TimeRange = field(default_factory=TimeRange)
    filter: Filter | None = None
    sort: tuple[Sort, ...] = (Sort("ts"),)
    fields: tuple[str, ...] | None = None
    """None: all fields that are not large."""
    previews: bool = False
    """Without ``fields``, rows also have the first :data:`PREVIEW_LENGTH` characters of prompts and answers."""
    include: frozenset[str] = frozenset()
    total: str = "none"
    limit: int = DEFAULT_LIMIT
    position: Position | None = None

    def selected(self) -> tuple[str, ...]:
        """Return the names of a row's fields, in order."""
        return VIEWS[self.view].default_fields if self.fields is None else self.fields

    def clipped(self) -> tuple[str, ...]:
        """Return the names of the fields that are shown by their first characters."""
        return VIEWS[self.view].previewed_fields if self.previews and self.fields is None else ()

    def shown(self) -> tuple[str, ...]:
        """Return the names of a row's fields, in order, clipped ones included."""
        selected, clipped = self.selected(), self.clipped()
        return (
            tuple(name for name in VIEWS[self.view].fields if name in selected or name in clipped)
            if clipped
            else selected
        )

    def identity(self) -> dict[str, Any]:
        """Return the parts that must stay the same from page to page, as a JSON document that cursors are bound to."""
        return {
            "view": self.view,
            "from": self.window.start and format_instant(self.window.start),
            "to": self.window.end and format_instant(self.window.end),
            "filter": self.filter and canonical(self.filter),
            "sort": [[key.field, key.descending] for key in self.sort],
        }

    def document(self) -> dict[str, Any]:
        """Return the whole question as a JSON document: equal documents have equal answers, so it is a cache key."""
        return {
            **self.identity(),
            "fields": self.selected(),
            "clipped": self.clipped(),
            "include": sorted(self.include),
            "total": self.total,
            "limit": self.limit,
            "position": self.position and [str(value) for value in self.position],
        }


def select_fields(view: View, names: Sequence[str]) -> tuple[str, ...]:
    """Resolve names of fields and groups to fields, in the order of the table.

    Raises ValueError for one that is unknown, is given more than once, or is only for filters.
    """
    known_groups: dict[str, set[str]] = {"all": set()}
    for item in view.fields.values():
        if item.selectable:
            known_groups.setdefault(item.group, set()).add(item.name)
            known_groups["all"].add(item.name)
    chosen: set[str] = set()
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{shown(name)} is given more than once")
        seen.add(name)
        if name in known_groups:
            chosen |= known_groups[name]
        elif name in view.fields and view.fields[name].selectable:
            chosen.add(name)
        else:
            raise ValueError(
                f"{shown(name)} is neither a field nor a group{suggest(name, [*known_groups, *view.fields])}"
            )
    return tuple(name for name in view.fields if name in chosen)


def read_sort(view: View, keys: Sequence[tuple[str, bool]], tree: Filter | None) -> tuple[Sort, ...]:
    """Check the requested order; ``keys`` are names with True for descending.

    Raises ValueError for a field that cannot be sorted by or is given more than once, more than three keys, ``rank``
    without a search, or another order than ``rank`` for a search by meaning.
    """
    if ranking_of(tree) is not None:
        if tuple(keys) not in {(), ((RANK, True),)}:
            raise ValueError("with meaning or like, rows are sorted by rank, the closest first")
        return (Sort(RANK),)
    if len(keys) > MOST_SORT_KEYS:
        raise ValueError(f"at most {MOST_SORT_KEYS} keys")
    found: list[Sort] = []
    for name, descending in keys:
        item = view.resolve(name)
        if name == RANK:
            if view.name != "spans" or search_text_of(tree) is None:
                raise ValueError("rank requires view=spans and a search")
        elif item is None or not item.is_sortable:
            names = [*view.sortable(), RANK]
            raise ValueError(f"{shown(name)} cannot be sorted by (sortable: {', '.join(names)}){suggest(name, names)}")
        key = Sort(item.name if item else RANK, descending)
        if any(key.field == other.field for other in found):
            raise ValueError(f"{key.field} is given more than once")
        found.append(key)
    return tuple(found) or (Sort("ts"),)


def search_text_of(tree: Filter | None) -> str | None:
    """Return the text of the first full-text search in the filter, to which rank and snippets refer."""
    if tree is None:
        return None
    return next((leaf.value for leaf in leaves(tree) if leaf.operator in SEARCHES), None)


def lift_to_traces(tree: Filter | None) -> Filter | None:
    """Return a filter of query parameters for ``view=traces``: fields that a trace lacks apply to one of its spans.

    All such conditions must hold for one and the same span. A ranking by meaning, and the words searched with it, stay
    as they are.
    """
    ranking = ranking_of(tree)
    if ranking is not None:
        return joined(ranking.by, ranking.search, lift_to_traces(ranking.rest))
    if tree is None:
        return None
    parts = tree.parts if isinstance(tree, And) else (tree,)
    whole: list[Filter] = []
    of_span: list[Filter] = []
    for part in parts:
        lifted = _lift(part)
        if lifted is None:
            of_span.append(part)
        else:
            whole.append(lifted)
    if of_span:
        whole.append(Has("trace", of_span[0] if len(of_span) == 1 else And(tuple(of_span))))
    return whole[0] if len(whole) == 1 else And(tuple(whole))


def _lift(part: Filter) -> Filter | None:
    match part:
        case Leaf(FieldKey()):
            return None
        case Leaf(TraceField(name=name), operator):
            item = SUMMARY_FIELDS.get(name)
            return replace(part, field=item) if item and operator in item.operators else None
        case Not(inner):
            lifted = _lift(inner)
            return lifted and Not(lifted)
        case And(parts) | Or(parts):
            lifted_parts = [_lift(inner) for inner in parts]
            if any(inner is None for inner in lifted_parts):
                return None
            return replace(part, parts=tuple(inner for inner in lifted_parts if inner))
        case _:
            return part
