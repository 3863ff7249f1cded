"""The body that Grafana sends to ``/query``: parts chosen by Grafana are read leniently, parts written by authors
strictly.

Unknown keys are ignored at every level, since each Grafana version adds some. Known keys must be valid: a panel that
shows another range, or ignores its filter, is worse than an error. Bounds: at most 20 visible targets, at most 11,000
points per series, ranges of at most 20 years.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from server.errors import InvalidBody, InvalidParameter
from server.queries.filters.operators import OPERATORS, SIGNS
from server.queries.filters.time_range import BoundedRange
from server.text.instants import EPOCH, parse_instant
from server.text.strict_json import StrictDecoder

MAX_TARGETS: Final = 20
MAX_POINTS: Final = 11_000
DEFAULT_POINTS: Final = 500
MAX_RANGE: Final = timedelta(days=366 * 20)
MAX_FILTERS: Final = 50

# Steps of a series, in seconds: those that a person would choose for an axis.
STEPS: Final = (1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)

_LIST_SIGNS: Final = frozenset(sign for sign, (name, _) in SIGNS.items() if OPERATORS[name].operand == "list")
_SHAPES: Final = frozenset({"timeserie", "timeseries", "table"})


@dataclass(frozen=True, slots=True)
class AdHocFilter:
    """One filter of the dashboard's ad hoc variable. ``values`` holds one value except for ``=|`` and ``!=|``."""

    key: str
    operator: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PanelTarget:
    """One query of a panel.

    ``strict`` is set by bundled dashboards: then an empty payload means that the browser failed to replace a variable,
    not that everything is requested. ``escaped``: the values went through builder mode.
    """

    ref_id: str
    name: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    escaped: bool = False


@dataclass(frozen=True, slots=True)
class PanelRequest:
    """A whole ``/query`` body."""

    targets: tuple[PanelTarget, ...]
    time_range: BoundedRange
    step_seconds: int
    filters: tuple[AdHocFilter, ...] = ()
    timezone: str = "UTC"


def parse_panel_request(body: Any) -> PanelRequest:
    """Read the body of ``/query``. Raises :class:`InvalidBody` with a pointer to the fault."""
    body = require_object(body, "")
    time_range = parse_range(body.get("range"), "/range")
    return PanelRequest(
        targets=_parse_targets(body.get("targets")),
        time_range=time_range,
        step_seconds=choose_step(
            time_range.seconds,
            _positive_number(body.get("intervalMs"), "/intervalMs") or 0.0,
            _positive_number(body.get("maxDataPoints"), "/maxDataPoints") or DEFAULT_POINTS,
        ),
        filters=parse_filters(body),
        timezone=_parse_timezone(body.get("timezone")),
    )


def choose_step(range_seconds: float, interval_ms: float, max_points: float) -> int:
    """Return the seconds between points: the smallest of :data:`STEPS` that respects the panel's interval and width.

    Never more than 11,000 points; beyond a week, whole weeks.
    """
    points = min(max(max_points, 1), MAX_POINTS)
    # An interval longer than any range still makes one point.
    wanted = min(max(interval_ms / 1000, range_seconds / points), MAX_RANGE.total_seconds())
    for step in STEPS:
        if step >= wanted:
            return step
    week = STEPS[-1]
    return int(-(-wanted // week)) * week


def parse_range(raw: Any, pointer: str) -> BoundedRange:
    """Read ``{"from", "to", "raw"}``. ``from`` and ``to`` are the range; ``raw`` shows whether it moves with now."""
    given = require_object(raw, pointer)
    now = datetime.now(UTC)
    start = _instant(given.get("from"), f"{pointer}/from", now)
    end = _instant(given.get("to"), f"{pointer}/to", now, round_up=True)
    if end <= start:
        raise InvalidBody.at(pointer, "from must be before to")
    if end - start > MAX_RANGE:
        raise InvalidBody.at(pointer, "at most 20 years")
    raw_to = given["raw"].get("to") if isinstance(given.get("raw"), dict) else None
    return BoundedRange(start, end, is_relative=isinstance(raw_to, str) and raw_to.startswith("now"))


def _instant(raw: Any, pointer: str, now: datetime, *, round_up: bool = False) -> datetime:
    # Zooming out far enough leads to 1970.
    try:
        return parse_instant(raw, now=now, round_up=round_up, earliest=EPOCH)
    except ValueError as error:
        raise InvalidBody.at(pointer, str(error)) from error


def parse_filters(body: Mapping[str, Any]) -> tuple[AdHocFilter, ...]:
    """Return the ad hoc filters, under today's name ``filters`` or the former ``adhocFilters``."""
    given = [*_list_of(body, "filters"), *_list_of(body, "adhocFilters")]
    if len(given) > MAX_FILTERS:
        raise InvalidBody.at("/filters", f"at most {MAX_FILTERS} filters")
    return tuple(_parse_filter(item, f"/filters/{number}") for number, item in enumerate(given))


def require_object(raw: Any, pointer: str) -> dict[str, Any]:
    """Return ``raw`` if it is a JSON object; else raise :class:`InvalidBody`."""
    if not isinstance(raw, dict):
        raise InvalidBody.at(pointer, "must be a JSON object")
    return raw


def _parse_targets(raw: Any) -> tuple[PanelTarget, ...]:
    if not isinstance(raw, list):
        raise InvalidBody.at("/targets", "must be a list")
    targets: list[PanelTarget] = []
    for number, item in enumerate(raw):
        given = require_object(item, f"/targets/{number}")
        # The plugin leaves these out itself; other front ends may not.
        if given.get("hide") is True or given.get("target") is None:
            continue
        targets.append(_parse_target(given, f"/targets/{number}"))
        if len(targets) > MAX_TARGETS:
            raise InvalidBody.at("/targets", f"at most {MAX_TARGETS} visible targets")
    names = [target.ref_id for target in targets]
    if len(set(names)) < len(names):
        raise InvalidBody.at("/targets", "each target must have a refId of its own")
    return tuple(targets)


def _parse_target(given: dict[str, Any], pointer: str) -> PanelTarget:
    name, ref_id = given["target"], given.get("refId", "A")
    if not isinstance(name, str) or not isinstance(ref_id, str) or len(name) > 200 or len(ref_id) > 200:
        raise InvalidBody.at(pointer, "target and refId must be short texts")
    if given.get("type") not in (None, "", *_SHAPES):
        raise InvalidBody.at(f"{pointer}/type", f"must be one of {', '.join(sorted(_SHAPES))}")
    return PanelTarget(
        ref_id=ref_id,
        name=name,
        payload=_parse_payload(given.get("payload"), f"{pointer}/payload"),
        strict=given.get("strict") is True,
        escaped=given.get("editorMode") == "builder",
    )


def _parse_payload(raw: Any, pointer: str) -> dict[str, Any]:
    if raw is None or raw == "":
        return {}
    if isinstance(raw, str):
        try:
            raw = json.loads(raw, cls=StrictDecoder)
        except (ValueError, RecursionError):
            raise InvalidBody.at(pointer, "is not valid JSON") from None
    return require_object(raw, pointer)


def _parse_filter(raw: Any, pointer: str) -> AdHocFilter:
    given = require_object(raw, pointer)
    key, operator = given.get("key"), given.get("operator")
    if not isinstance(key, str) or not key:
        raise InvalidBody.at(f"{pointer}/key", "must name a field")
    if not isinstance(operator, str) or operator not in SIGNS:
        raise InvalidBody.at(f"{pointer}/operator", f"must be one of {' '.join(SIGNS)}")
    value, values = given.get("value"), given.get("values")
    if operator in _LIST_SIGNS and isinstance(values, list) and values:
        chosen = values
    else:
        chosen = [value]
    if not all(isinstance(item, (str, int, float)) and len(str(item)) <= 4096 for item in chosen) or len(chosen) > 1000:
        raise InvalidBody.at(f"{pointer}/value", "must be a text, or up to 1,000 of them for =| and !=|")
    return AdHocFilter(key, operator, tuple(str(item) for item in chosen))


def _list_of(body: Mapping[str, Any], key: str) -> list[Any]:
    raw = body.get(key)
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise InvalidBody.at(f"/{key}", "must be a list")
    return raw


def _positive_number(raw: Any, pointer: str) -> float | None:
    """Return a number that may arrive as text; ``None`` for missing, zero and negative ones, which let the server
    choose."""
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise InvalidBody.at(pointer, "must be a number")
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        raise InvalidBody.at(pointer, "must be a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise InvalidBody.at(pointer, "must be a finite number")
    return number if number > 0 else None


def _parse_timezone(raw: Any) -> str:
    """Return an IANA name. The zone "browser" is not sent as a name, so days are those of UTC then."""
    if not isinstance(raw, str) or raw in ("", "browser", "utc", "UTC"):
        return "UTC"
    try:
        ZoneInfo(raw)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidParameter.named("timezone", f"{raw[:60]!r} is not an IANA time zone") from None
    return raw
