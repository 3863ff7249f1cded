"""From matchers on labels to what the metric engine filters by.

The project wall is not part of this: a matcher on ``project`` can only choose among the projects of the caller's scope.
Patterns are matched by RE2 against the values that the projects have, so that the database sees plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from datasource.prometheus.promql.syntax import NAME_LABEL, Matcher
from datasource.prometheus.series_catalog import SeriesFamily
from server.queries.filters.filter_tree import And, Filter, Leaf, Not, Or
from server.queries.filters.span_fields import FIELDS
from server.queries.metrics.dimension_values import read_dimension_values
from server.queries.metrics.metric_catalog import DIMENSIONS
from server.storage.database import Database
from server.storage.row_scope import RowScope

ANYTHING: Final = ".*"
"""The pattern of a variable of Grafana at "All": it takes the empty label, too, and so is no condition."""
_OWN_LABELS: Final = frozenset({NAME_LABEL, "token_type", "le"})
_LONGEST_LIST: Final = 100


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """Rows to look at. ``needed``: labels whose matchers can only be checked on the groups that come back."""

    scope: RowScope
    filter: Filter | None
    needed: frozenset[str]


async def label_filter(
    database: Database, scope: RowScope, matchers: Sequence[Matcher], family: SeriesFamily
) -> LabelFilter | None:
    """Return the filter that ``matchers`` mean for a metric; None if no series can match."""
    parts: list[Filter] = []
    needed: set[str] = set()
    patterns: list[Matcher] = []
    own = _OWN_LABELS | {name for part in family.parts for name in part.labels}
    for item in matchers:
        if item.name == "project":
            scope = replace(scope, projects=tuple(name for name in scope.projects if item.accepts(name)))
        elif item.name not in family.labels:
            # A label that the metric does not have is empty.
            if item.name not in own and not item.accepts(""):
                return None
        elif family.family != "spans":
            needed.add(item.name)
        elif item.kind == "=~" and item.value == ANYTHING:
            continue
        elif item.kind in ("=~", "!~"):
            patterns.append(item)
        else:
            equal = _equals(item.name, (item.value,))
            parts.append(equal if item.kind == "=" else Not(equal))
    if not scope.projects:
        return None
    if patterns:
        columns = tuple(dict.fromkeys(DIMENSIONS[item.name].column for item in patterns))
        known = await read_dimension_values(database, scope, columns)
        for item in patterns:
            every = ("", *known[DIMENSIONS[item.name].column])
            values = tuple(value for value in every if item.accepts(value))
            if not values:
                return None
            if len(values) < len(every):
                parts.append(_equals(item.name, values))
    return LabelFilter(
        scope, None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts)), frozenset(needed)
    )


def _equals(name: str, values: Sequence[str]) -> Filter:
    field = FIELDS[DIMENSIONS[name].column]
    filled = tuple(dict.fromkeys(value for value in values if value))
    choices: list[Filter] = [
        Leaf(field, "in", filled[start : start + _LONGEST_LIST]) for start in range(0, len(filled), _LONGEST_LIST)
    ]
    if "" in values:
        choices.append(Leaf(field, "exists", False))
    return choices[0] if len(choices) == 1 else Or(tuple(choices))
