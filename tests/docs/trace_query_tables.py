"""The tables of docs/reference/trace-query.md, from the tables of the program."""

from __future__ import annotations

from collections.abc import Iterable

from server.queries.filters.filter_params import FILTER_PARAMETERS, KEYED_PARAMETERS, FilterParameter
from server.queries.filters.operators import OPERATORS
from server.queries.filters.span_fields import KEYED_FIELDS, KEYED_OPERATORS, TYPE_OPERATORS, TraceField
from server.queries.lists.list_question import VIEWS, View
from server.rest.list_request import LIST_PARAMETERS

_TAKES = {
    "one": "a value",
    "list": "a list",
    "pair": "`[low, high]`",
    "truth": "true or false",
    "text": "a text",
    "pattern": "a pattern",
    "search": "a search",
    "meaning": "a text",
    "reference": "a trace or span",
}


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def list_parameters() -> str:
    """Return the parameters that are not filters."""
    return _table(("Parameter", "Meaning"), ((f"`{name}`", text) for name, text in LIST_PARAMETERS.items()))


def filter_parameters() -> str:
    """Return the parameters that are filters, keyed ones last."""

    def row(parameter: FilterParameter) -> tuple[str, ...]:
        name = f"{parameter.name}KEY" if parameter.name.endswith(".") else parameter.name
        values = "list" if parameter.is_list else "one"
        return (
            f"`{name}`",
            parameter.value_type.value,
            values,
            "yes" if parameter.is_negatable else "",
            (parameter.sentence),
        )

    parameters = [*FILTER_PARAMETERS.values(), *KEYED_PARAMETERS.values()]
    return _table(("Parameter", "Type", "Values", "Negation", "Meaning"), map(row, parameters))


def operators() -> str:
    """Return the operators of the filter document."""
    return _table(
        ("Operator", "Takes", "Meaning"),
        ((f"`{name}`", _TAKES[operator.operand], operator.sentence) for name, operator in OPERATORS.items()),
    )


def types() -> str:
    """Return the operators of each type."""
    rows = [(kind.value, ", ".join(f"`{name}`" for name in names)) for kind, names in TYPE_OPERATORS.items()]
    keyed = " ".join(f"`{prefix}.KEY`" for prefix in KEYED_FIELDS)
    return _table(("Type", "Operators"), [*rows, (keyed, ", ".join(f"`{name}`" for name in KEYED_OPERATORS))])


def span_fields() -> str:
    """Return the fields of a span."""
    return _fields(VIEWS["spans"])


def trace_fields() -> str:
    """Return the fields of a whole trace."""
    return _fields(VIEWS["traces"])


def _fields(view: View) -> str:
    def row(field: TraceField) -> tuple[str, ...]:
        notes = [
            "sortable" if field.is_sortable else "",
            "content" if field.is_content else "",
            "large" if field.is_large else "",
            "previewed" if field.is_previewed else "",
            "only in filters" if not field.selectable else "",
            "not in filters" if not field.filterable else "",
            "may be null" if field.nullable else "",
        ]
        others = {field.parameter, field.range_parameter, *field.aliases} - {None, field.name}
        names = " ".join([f"`{field.name}`", *sorted(f"(`{name}`)" for name in others)])
        return names, field.group, field.type.value, ", ".join(filter(None, notes)), field.sentence

    return _table(("Field", "Group", "Type", "Notes", "Meaning"), map(row, view.fields.values()))
