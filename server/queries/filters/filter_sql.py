"""Translation of a checked filter into an SQL predicate: the only place that composes SQL about spans.

Statements are composed of fragments of this module and expressions of the table of fields. Everything that comes from a
caller, keys of attributes included, is bound as ``$n``, or is one of the words in the table of fields. A comparison
with a missing value is NULL in SQL; ``IS NOT TRUE`` makes each negation the exact complement.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from server.queries.filters.filter_tree import And, FieldKey, Filter, Has, Leaf, Not, Or, check_readable, refuse_ranking
from server.queries.filters.operators import OPERATORS, SEARCHES
from server.queries.filters.search_text import search_query
from server.queries.filters.shared_words import SearchedText
from server.queries.filters.span_fields import FIELDS, TYPE_SQL, FieldType, TraceField, attributes_with
from server.queries.filters.time_range import TimeRange
from server.queries.filters.words_in_parts import WordsInParts
from server.storage.row_scope import RowScope
from server.storage.statements import fragment

HAS_MARGIN: Final = timedelta(days=1)
"""How far outside the requested window to look for the other spans of a trace or session."""
MOST_BINDS: Final = 1000

_TEXTS: Final = ("input_text", "output_text")
_WHOLE_COLUMNS: Final[dict[str, str]] = {"trace": "trace_id", "session": "session_id"}


def compile_filter(
    tree: Filter,
    params: list[Any],
    *,
    scope: RowScope,
    alias: str = "t",
    window: TimeRange | None = None,
    is_summary: bool = False,
) -> str:
    """Return the predicate over the row ``alias``, and append the values it binds to ``params``.

    ``window`` is the time range of the question; it bounds the search for other spans of a trace or session
    (:data:`HAS_MARGIN`). ``is_summary``: the row is the summary of a trace, whose own start and end narrow that search.
    The project predicate is not included: readers put it in front, outside the caller's tree.

    Raises:
        InsufficientScope: the filter is on content and ``scope`` may not read content.
        BadRequest: the filter contains an order (``meaning``, ``like``), which only lists take.
    """
    check_readable(tree, scope)
    refuse_ranking(tree)
    compiled = _Compiler(params, window or TimeRange(), alias if is_summary else None).compile(tree, alias)
    if len(params) >= MOST_BINDS:
        raise AssertionError(f"the bounds of filter_tree keep statements below {MOST_BINDS:,} bound values")
    return compiled


def escape_like(text: str) -> str:
    """Return ``text`` as a LIKE pattern that matches exactly itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class _Compiler:
    def __init__(self, params: list[Any], window: TimeRange, summary: str | None) -> None:
        self.params = params
        self.window = window
        self.summary = summary

    def bind(self, value: Any, sql_type: str) -> str:
        self.params.append(value)
        return f"${len(self.params)}::{sql_type}"

    def compile(self, tree: Filter, alias: str) -> str:
        match tree:
            case And(parts):
                return f"({' AND '.join(self.compile(part, alias) for part in parts)})"
            case Or(parts):
                return f"({' OR '.join(self.compile(part, alias) for part in parts)})"
            case Not(part):
                return f"({self.compile(part, alias)} IS NOT TRUE)"
            case Has(whole, part):
                return self.has(_WHOLE_COLUMNS[whole], part, alias)
            case Leaf(field, operator, value) if (negated := _negated(operator)) and not _has_own_negation(field):
                return f"({self.compile(Leaf(field, negated, value), alias)} IS NOT TRUE)"
            case Leaf(FieldKey(family, key), operator, value):
                return _FAMILIES[family.prefix](self, key, operator, value, alias)
            case Leaf(TraceField() as field, operator, value):
                return self.comparison(field, operator, value, alias)
        raise AssertionError(tree)

    def has(self, column: str, part: Filter, alias: str) -> str:
        is_of_summary = alias == self.summary and column == "trace_id"
        # The planner's statistics lack the newest hours: for a window within those hours it expects one row, and would
        # scan the window again for every trace. So the trace's own times are the bounds, and those of the window are
        # hidden from the planner; they still exclude partitions.
        edge = "(SELECT {})" if is_of_summary else "{}"
        bounds = f" AND h.ts >= {alias}.start_ts AND h.ts <= {alias}.end_ts" if is_of_summary else ""
        if self.window.start is not None:
            bounds += f" AND h.ts >= {edge.format(self.bind(self.window.start - HAS_MARGIN, 'timestamptz'))}"
        if self.window.end is not None:
            bounds += f" AND h.ts < {edge.format(self.bind(self.window.end + HAS_MARGIN, 'timestamptz'))}"
        return fragment("has_span").format(t=alias, column=column, bounds=bounds, part=self.compile(part, "h"))

    def comparison(self, field: TraceField, operator: str, value: Any, alias: str) -> str:
        expression = field.expression(alias)
        match field.type:
            case FieldType.TAGS:
                return self.tags(expression, operator, value)
            case FieldType.BOOLEAN if operator == "eq":
                return expression if value else f"(NOT {expression})"
            case FieldType.JSON:
                filled = f'({expression} <> ALL (\'{{"{{}}","[]","null"}}\'::jsonb[]))'
                return filled if value else f"({filled} IS NOT TRUE)"
            case FieldType.FULL_TEXT:
                return self.full_text(expression, operator, value, alias)
            case _:
                word = _own_word(field, operator, value)
                return (
                    f"({expression} = '{word}')"
                    if word
                    else self.scalar(expression, TYPE_SQL[field.type], operator, value)
                )

    def scalar(self, expression: str, sql_type: str, operator: str, value: Any) -> str:
        if operator == "exists":
            return f"({expression} IS {'NOT ' if value else ''}NULL)"
        if operator == "between":
            return f"({expression} BETWEEN {self.bind(value[0], sql_type)} AND {self.bind(value[1], sql_type)})"
        if operator == "in":
            if len(value) == 1:
                return self.scalar(expression, sql_type, "eq", value[0])
            value, sql_type = list(value), f"{sql_type}[]"
        row = OPERATORS[operator]
        if row.like is not None:
            value = row.like.format(escape_like(value))
        if row.sql is None:
            raise AssertionError(f"{operator} is not an operator of a scalar field")
        return f"({row.sql.format(x=expression, v=self.bind(value, sql_type))})"

    def tags(self, expression: str, operator: str, value: Any) -> str:
        if operator == "exists":
            return f"({expression} {'<>' if value else '='} '{{}}')"
        wanted = [value] if operator == "eq" else list(value)
        overlap = "&&" if operator in {"in", "any"} else "@>"
        return f"({expression} {overlap} {self.bind(wanted, 'text[]')})"

    def full_text(self, expression: str, operator: str, value: str, alias: str) -> str:
        if operator in SEARCHES:
            return self.search(expression, value, alias, only_new=operator == "search_new")
        pattern = self.bind(f"%{escape_like(value)}%", "text")
        return f"({' OR '.join(f'{FIELDS[name].expression(alias)} ILIKE {pattern}' for name in _TEXTS)})"

    def search(self, expression: str, value: str, alias: str, *, only_new: bool) -> str:
        """Compile a search over the words of the row, or of its parts if it has parts: each word or phrase must be in
        one part, and all of them in the parts together. ``only_new``: parts that are history do not count.
        """
        query = search_query(value)
        if query.tsquery is None:
            return "false"
        own = f"{expression} @@ to_tsquery('simple', {self.bind(query.tsquery, 'text')})"
        found = value.found if isinstance(value, SearchedText) else {}
        parts = WordsInParts(self.bind, self.weeks, alias, found, only_new=only_new).any_of(query.alternatives)
        if all(any(not term.negated for term in terms) for terms in query.alternatives):
            # Nothing is true of a row without the words, so neither side needs to know where the words of a row are.
            # Then the condition is that of the indexes alone, and the database does not look at each row again: a
            # comparison of two lists of ids takes as long as reading the row.
            return f"({own} OR {parts})"
        return f"(({alias}.parts IS NULL AND {own}) OR ({alias}.parts IS NOT NULL AND ({parts})))"

    def weeks(self) -> str:
        """Return conditions on the weeks of the spans that are searched, with the margin of ``has``."""
        start, end = self.window.start, self.window.end
        bounds = ""
        if start is not None:
            bounds += f" AND c.week > {self.bind(start - HAS_MARGIN - timedelta(days=7), 'timestamptz')}"
        if end is not None:
            bounds += f" AND c.week < {self.bind(end + HAS_MARGIN, 'timestamptz')}"
        return bounds

    def attribute(self, key: str, operator: str, value: Any, alias: str) -> str:
        bound = self.bind(key, "text")
        if operator == "exists":
            return f"({alias}.attributes ? {bound})" if value else f"(NOT {alias}.attributes ? {bound})"
        return self.member(attributes_with(bound, alias), bound, operator, value)

    def resource(self, key: str, operator: str, value: Any, alias: str) -> str:
        """Compile a comparison with an attribute of the resource, which is in the row or in a table of its own. There
        the database looks for each row by key, or first for all resources that pass, whichever costs less.
        """
        if operator == "exists" and not value:
            return f"(NOT {self.resource(key, operator, True, alias)})"
        bound = self.bind(key, "text")
        document = "{document}"
        part = f"{document} ? {bound}" if operator == "exists" else self.member(document, bound, operator, value)
        own, shared = (part.replace(document, place) for place in (f"{alias}.resource_attributes", "r.attributes"))
        return f"(({alias}.resource_id IS NULL AND {own}) OR {fragment('has_resource').format(t=alias, part=shared)})"

    def member(self, document: str, key: str, operator: str, value: Any) -> str:
        """Compile a comparison with a member of ``document``; ``key`` is bound already."""
        number = fragment("attribute_number").format(column=document, key=key)
        return self.text_or_number(f"({document} ->> {key})", number, "numeric", operator, value)

    def element(self, column: str, key: str, operator: str, value: Any, alias: str) -> str:
        """Compile a comparison with any element of ``events`` or ``links``. ``:name`` is a member of the element; other
        keys name its attributes.
        """
        item = "e.item" if key.startswith(":") else "(e.item -> 'attributes')"
        bound = self.bind(key.removeprefix(":"), "text")
        text = f"({item} ->> {bound})"
        number = fragment("attribute_number").format(column=item, key=bound)
        if operator == "exists":
            condition = f"({item} ? {bound})"
        elif operator == "ne":
            condition = (
                f"({item} ? {bound} AND {self.text_or_number(text, number, 'numeric', 'eq', value)} IS NOT TRUE)"
            )
        elif operator == "not_regex":
            condition = f"NOT {self.scalar(text, 'text', 'regex', value)}"
        else:
            condition = self.text_or_number(text, number, "numeric", operator, value)
        return fragment("has_element").format(t=alias, column=column, part=condition)

    def trace(self, operator: str, value: Any, alias: str) -> str:
        """Compile a comparison with the duration of the whole trace in milliseconds."""
        if operator == "exists":
            return "true"
        duration = "(extract(epoch FROM w.end_ts - w.start_ts) * 1000)"
        comparison = self.scalar(duration, "numeric", "eq" if operator == "ne" else operator, value)
        part = f"{comparison} IS NOT TRUE" if operator == "ne" else comparison
        return fragment("has_summary").format(t=alias, part=part)

    def score(self, name: str, operator: str, value: Any, alias: str) -> str:
        bound = self.bind(name, "text")
        if operator == "exists":
            condition = "true"
        else:
            text = fragment("score_text")
            condition = self.text_or_number(text, "s.value", "double precision", operator, value)
        found = fragment("has_score").format(t=alias, name=bound, part=condition)
        return f"(NOT {found})" if operator == "exists" and not value else found

    def text_or_number(self, text: str, number: str, number_type: str, operator: str, value: Any) -> str:
        """Return a comparison as text or as number, depending on the type of ``value``."""

        def native(item: Decimal) -> Decimal | float:
            return item if number_type == "numeric" else float(item)

        if operator == "in":
            numbers = [native(item) for item in value if isinstance(item, Decimal)]
            texts = [item for item in value if isinstance(item, str)]
            found = []
            if texts:
                found.append(self.scalar(text, "text", "in", texts))
            if numbers:
                found.append(self.scalar(number, number_type, "in", numbers))
            return f"({' OR '.join(found)})"
        if operator == "between":
            return self.scalar(number, number_type, operator, tuple(map(native, value)))
        if isinstance(value, Decimal):
            return self.scalar(number, number_type, operator, native(value))
        return self.scalar(text, "text", operator, value)


def _negated(operator: str) -> str | None:
    row = OPERATORS.get(operator)
    return row.negates if row is not None else None


def _has_own_negation(field: TraceField | FieldKey) -> bool:
    """Return whether ``ne`` holds for a row if one of several elements differs, even if another equals the value."""
    return isinstance(field, FieldKey) and field.family.prefix in _OF_ELEMENTS


def _own_word(field: TraceField, operator: str, value: Any) -> str | None:
    """Return the one choice of ``field`` that ``value`` names, as the table of fields spells it.

    It is written into the statement instead of bound, so that a generic plan can use a partial index.
    """
    asked = value[0] if operator == "in" and len(value) == 1 else value if operator == "eq" else None
    return next((word for word in field.choices if word == asked), None)


_OF_ELEMENTS: Final = frozenset({"event", "link", "trace"})
_FAMILIES: Final[dict[str, Callable[[_Compiler, str, str, Any, str], str]]] = {
    "attribute": lambda compiler, *rest: compiler.attribute(*rest),
    "resource": lambda compiler, *rest: compiler.resource(*rest),
    "score": lambda compiler, *rest: compiler.score(*rest),
    "event": lambda compiler, *rest: compiler.element("events", *rest),
    "link": lambda compiler, *rest: compiler.element("links", *rest),
    "trace": lambda compiler, _, *rest: compiler.trace(*rest),
}
