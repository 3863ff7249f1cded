"""Conversion of a target's payload to a question for the query core.

Every key is read by the catalogue's declaration, and the dashboard's ad hoc filters are added. Mistakes are refused: an
undeclared key, a strict target whose payload was lost in the browser, a filter on a field that does not exist. The
result contains only plain values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from datasource.panel_catalog import ALIASES, TARGETS, TargetDefinition
from datasource.panels.frames import Notice
from datasource.panels.panel_request import AdHocFilter, PanelRequest, PanelTarget
from datasource.panels.payload_values import (
    parse_boolean,
    parse_choices,
    parse_integer,
    parse_number,
    parse_text,
    parse_values,
    variable_values,
)
from datasource.payload_fields import SEARCHES, Kind, PayloadField
from server.errors import InvalidParameter, UnknownMetric, UnknownParameter
from server.queries.filters.filter_tree import Filter, canonical, parse_filter
from server.queries.filters.operators import SIGNS
from server.queries.filters.span_fields import FieldType, field_named
from server.queries.filters.time_range import BoundedRange
from server.text.suggestion import suggest

FilterDocument = dict[str, Any]

LONGEST_LIST: Final = 100
"""Values of one ``in`` of the filter grammar; longer lists (All of a big variable) are cut into several."""

_NUMERIC: Final = frozenset({FieldType.INTEGER, FieldType.NUMBER, FieldType.MONEY})
_KEYED: Final = ("attribute.", "resource.", "score.")

_TAG_OPERATORS: Final = {"eq": "any", "in": "any"}


@dataclass(frozen=True, slots=True)
class TargetQuestion:
    """One target after reading. ``values`` has every declared field. ``filter`` joins all conditions on the rows
    (``None``: all rows). ``projects``: the requested projects (empty: all that are granted).
    """

    ref_id: str
    definition: TargetDefinition
    values: Mapping[str, Any]
    filter: Filter | None
    projects: tuple[str, ...]
    time_range: BoundedRange
    step_seconds: int
    timezone: str = "UTC"
    notices: tuple[Notice, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """Return everything that decides the answer, as JSON values: equal for equal questions."""
        return {
            "target": self.definition.name,
            "ref_id": self.ref_id,
            "values": dict(self.values),
            "filter": canonical(self.filter) if self.filter is not None else None,
            "start": self.time_range.start.isoformat(),
            "end": self.time_range.end.isoformat(),
            "step": self.step_seconds,
            "timezone": self.timezone,
            "notices": [notice.text for notice in self.notices],
        }


@dataclass(slots=True)
class _Reading:
    """The part of one payload that has been read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    clauses: list[FilterDocument] = field(default_factory=list)
    projects: tuple[str, ...] = ()


def find_target(name: str) -> TargetDefinition:
    """Return the catalogue's entry for ``name``. Raises :class:`UnknownMetric` with the nearest names.

    The plugin sends names through its 'regex' formatter, which escapes dots if the name contains a variable; such a
    name is found, too.
    """
    plain = name.replace("\\", "")
    definition = TARGETS.get(ALIASES.get(plain, plain))
    if definition is None:
        raise UnknownMetric(f"Unknown metric {plain[:80]!r}{suggest(plain, TARGETS)}")
    return definition


def read_target(target: PanelTarget, request: PanelRequest) -> TargetQuestion:
    """Turn ``target`` into a question. Raises an :class:`~server.errors.ApiError` that names the fault."""
    definition = find_target(target.name)
    notices: list[Notice] = []
    if not target.payload:
        if target.strict:
            raise InvalidParameter.named(
                "payload",
                "arrived empty: a variable holds a value that broke the JSON text of this panel. "
                "Write ${name:queryparam} in the payload, which survives every value.",
            )
        notices.append(Notice("The payload is empty: nothing is filtered, and defaults are shown."))
    return question_of(
        definition,
        target.payload,
        time_range=request.time_range,
        ref_id=target.ref_id,
        filters=request.filters,
        step_seconds=request.step_seconds,
        timezone=request.timezone,
        strict=target.strict,
        escaped=target.escaped,
        notices=notices,
    )


def question_of(
    definition: TargetDefinition,
    payload: Mapping[str, Any],
    *,
    time_range: BoundedRange,
    ref_id: str = "A",
    filters: Iterable[AdHocFilter] = (),
    step_seconds: int = 60,
    timezone: str = "UTC",
    strict: bool = True,
    escaped: bool = False,
    notices: Iterable[Notice] = (),
) -> TargetQuestion:
    """Read ``payload`` by the declaration of ``definition``.

    An undeclared key is an error in a strict target, and a warning in the panel's header otherwise.
    """
    remarks = list(notices)
    for key in payload:
        if definition.field_named(key) is None:
            hint = suggest(key, (item.name for item in definition.fields))
            if strict:
                raise UnknownParameter(
                    f"{definition.name} takes no {key!r}{hint}", errors=[{"parameter": key, "detail": "is unknown"}]
                )
            remarks.append(Notice(f"{definition.name} takes no {key[:80]!r}, so it is ignored{hint}", "warning"))
    given = {**_from_variables(definition, payload), **payload, **definition.preset}
    reading = _Reading()
    for item in definition.fields:
        _read_field(item, given.get(item.name), escaped, reading)
    # Values that the catalogue fixes, which the target does not offer.
    reading.values.update({name: value for name, value in definition.preset.items() if name not in reading.values})
    reading.clauses += [{"field": name, "operator": "eq", "value": value} for name, value in definition.only.items()]
    reading.clauses += [adhoc_clause(item) for item in filters if item.values != ("",)]
    period = reading.values.get("period")
    if period is not None:
        time_range = current_period(period, timezone)
    return TargetQuestion(
        ref_id=ref_id,
        definition=definition,
        values=reading.values,
        filter=parse_filter({"and": reading.clauses}) if reading.clauses else None,
        projects=reading.projects,
        time_range=time_range,
        step_seconds=step_seconds,
        timezone=timezone,
        notices=tuple(remarks),
    )


def current_period(period: str, timezone: str, now: datetime | None = None) -> BoundedRange:
    """Return the range from the start of the ``day``, ``week`` (Monday) or ``month`` in ``timezone`` until ``now``."""
    moment = (now or datetime.now(UTC)).astimezone(ZoneInfo(timezone))
    day = datetime.combine(moment.date(), time.min, tzinfo=moment.tzinfo)
    back = {"day": 0, "week": moment.weekday(), "month": moment.day - 1}[period]
    start = (day - timedelta(days=back)).astimezone(UTC)
    # At midnight the period is still empty, but a range must not be.
    return BoundedRange(start, max(moment.astimezone(UTC), start + timedelta(seconds=1)), is_relative=True)


def adhoc_clause(item: AdHocFilter) -> FilterDocument:
    """Return one ad hoc filter as a clause of the filter document; :func:`parse_filter` checks its key."""
    known = field_named(item.key)
    operator, is_negated = SIGNS[item.operator]
    values: list[Any] = list(item.values)
    if known is None:
        if item.key.startswith(_KEYED) and operator in ("lt", "gt", "lte", "gte"):
            values = [_number(item.key, value) for value in values]
    elif known.type is FieldType.TAGS:
        operator = _TAG_OPERATORS.get(operator, operator)
    elif known.type in _NUMERIC:
        values = [_number(item.key, value) for value in values]
    elif known.type is FieldType.BOOLEAN:
        values = [parse_boolean(item.key, value) for value in values]
    takes_list = operator in ("in", "not_in", "any", "all")
    clause: FilterDocument = {"field": item.key, "operator": operator, "value": values if takes_list else values[0]}
    return {"not": clause} if is_negated else clause


def values_clause(item: PayloadField, values: tuple[str, ...]) -> FilterDocument:
    """Return the clause for a payload key with values: the field has one of them."""
    known = field_named(item.filter_field)
    operator = "any" if known is not None and known.type is FieldType.TAGS else "in"
    clauses: list[FilterDocument] = [
        {"field": item.filter_field, "operator": operator, "value": list(values[first : first + LONGEST_LIST])}
        for first in range(0, len(values), LONGEST_LIST)
    ]
    return clauses[0] if len(clauses) == 1 else {"or": clauses}


def _from_variables(definition: TargetDefinition, payload: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the key ``vars`` (``${__all_variables}``) for the keys that the target declares."""
    raw = payload.get("vars")
    if not isinstance(raw, str):
        return {}
    return {name: text for name, text in variable_values(raw).items() if definition.field_named(name) is not None}


def _read_field(item: PayloadField, raw: Any, escaped: bool, reading: _Reading) -> None:
    if item.name == "vars":
        return
    match item.kind:
        case Kind.VALUES:
            values = parse_values(item.name, raw, escaped=escaped)
            if item.name == "project":
                reading.projects = values
            elif not item.filter_field:
                reading.values[item.name] = values
            elif values:
                reading.clauses.append(values_clause(item, values))
        case Kind.DOCUMENT:
            document = _read_document(item.name, raw)
            if document is not None:
                reading.clauses.append(document)
        case _:
            value = _read_plain(item, raw, escaped)
            reading.values[item.name] = item.default if value is None else value
            if item.name in SEARCHES and value is not None:
                reading.clauses.append({"field": "text", "operator": SEARCHES[item.name], "value": value})
            if item.name == "roots" and value is True:
                reading.clauses.append({"field": "is_root", "operator": "eq", "value": True})


def _read_plain(item: PayloadField, raw: Any, escaped: bool) -> Any:
    """Return the value of a single field, or ``None`` when nothing is set."""
    match item.kind:
        case Kind.CHOICES:
            allowed = [value for value, _ in item.options]
            chosen = (
                parse_choices(item.name, raw, allowed, escaped=escaped)
                if allowed
                else parse_values(item.name, raw, escaped=escaped)
            )
            return chosen or None
        case Kind.CHOICE:
            chosen_one = parse_text(item.name, raw, escaped=escaped)
            if chosen_one is not None and item.options:
                parse_choices(item.name, chosen_one, [value for value, _ in item.options])
            return chosen_one
        case Kind.INTEGER:
            return parse_integer(item.name, raw, least=item.least, most=item.most)
        case Kind.NUMBER:
            return parse_number(item.name, raw)
        case Kind.BOOLEAN:
            return parse_boolean(item.name, raw)
        case _:
            return parse_text(item.name, raw, escaped=escaped)


def _read_document(name: str, raw: Any) -> FilterDocument | None:
    if raw is None or raw == "" or raw == {}:
        return None
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raise InvalidParameter.named(name, "is not valid JSON") from None
    if not isinstance(raw, dict):
        raise InvalidParameter.named(name, "must be a filter document (a JSON object)")
    return raw


def _number(key: str, text: str) -> int | float:
    number = parse_number(key, text)
    if number is None:
        raise InvalidParameter.named(key, "must be a number")
    return int(number) if number == int(number) else number
