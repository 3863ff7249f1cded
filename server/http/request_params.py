"""Query strings, read strictly.

A parameter that is silently dropped or guessed widens the answer. So unknown names, blanks, repeated scalars, invalid
UTF-8 and NUL are errors that name the parameter. The raw query string is parsed here, because the framework's own
parsing drops blanks and repairs bytes.

    params = RequestParams.of(request)
    limit = params.integer("limit", default=50, low=1, high=1000)
    params.finish()          # every other parameter is unknown

Lists are given by repeating the parameter or by commas; ``name!=value`` and ``not.name=value`` negate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

from sanic import Request

from server.errors import ApiError, BadRequest, InvalidParameter, UnknownParameter
from server.queries.filters.filter_params import FILTER_PARAMETERS, GivenParameter, filter_parameter, parameters_of
from server.queries.filters.filter_values import LONGEST_LIST, check_characters
from server.queries.filters.time_range import LONGEST_RANGE, TimeRange, check_range
from server.text.instants import parse_instant
from server.text.suggestion import suggest_or_list

LONGEST_QUERY_STRING: Final = 32_768
MOST_PAIRS: Final = 500
_NEGATION: Final = "not."
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

Value = TypeVar("Value")

_USUAL: Final = (
    (("page", "offset", "skip", "after", "page_token", "next_cursor"), "cursor"),
    (("page_size", "per_page", "size", "top", "take", "max_results"), "limit"),
    (("order", "direction"), "sort_order"),
    (("order_by", "sort"), "sort_by"),
    (("start", "start_time", "since", "from_ts", "starttime"), "from"),
    (("end", "end_time", "until", "to_ts", "endtime"), "to"),
    (("q", "query", "input_text", "output_text", "prompt"), "search"),
    (("select", "columns"), "fields"),
    (("project",), "project_id"),
)
_NAMES_ELSEWHERE: Final[dict[str, str]] = {name: ours for names, ours in _USUAL for name in names}
"""Names that other APIs have for parameters, with ours."""


@dataclass(slots=True)
class RequestParams:
    """The parameters of one request; each reader takes what it knows, :meth:`finish` refuses the rest."""

    given: dict[tuple[str, bool], list[str]]
    asked: set[str] = field(default_factory=set)
    taken: set[tuple[str, bool]] = field(default_factory=set)

    @classmethod
    def of(cls, request: Request) -> RequestParams:
        """Return the parameters of ``request``."""
        return cls.parse(request.raw_url.partition(b"?")[2])

    @classmethod
    def parse(cls, query_string: bytes) -> RequestParams:
        """Parse a raw query string. Raises :class:`InvalidParameter` for one that cannot be read."""
        if len(query_string) > LONGEST_QUERY_STRING:
            raise BadRequest(f"The query string is longer than {LONGEST_QUERY_STRING} bytes.")
        pairs = [pair for pair in query_string.split(b"&") if pair]
        if len(pairs) > MOST_PAIRS:
            raise BadRequest(f"The query string has more than {MOST_PAIRS} parameters.")
        given: dict[tuple[str, bool], list[str]] = {}
        for pair in pairs:
            raw_name, _, raw_value = pair.partition(b"=")
            name = _decode(raw_name, "a parameter name")
            negated = name.startswith(_NEGATION) or name.endswith("!")
            name = name.removeprefix(_NEGATION) if name.startswith(_NEGATION) else name.removesuffix("!")
            if not name:
                raise UnknownParameter("A parameter has no name.")
            value = _decode(raw_value, name)
            if not value.strip():
                raise InvalidParameter.named(name, "has no value")
            given.setdefault((name, negated), []).append(value)
        return cls(given)

    def text(self, name: str) -> str | None:
        """Return the value of a parameter that is given at most once; None without it."""
        values = self._take(name)
        if len(values) > 1:
            raise InvalidParameter.named(name, "is given more than once")
        return values[0] if values else None

    def texts(self, name: str, *, most: int = LONGEST_LIST) -> tuple[str, ...]:
        """Return the distinct values of a list parameter, by repeats or commas; empty without it."""
        return tuple(dict.fromkeys(self.items(name, most=most)))

    def items(self, name: str, *, most: int = LONGEST_LIST) -> tuple[str, ...]:
        """Return the values of a list parameter like :meth:`texts`, duplicates included."""
        return _split(name, self._take(name), most)

    def read(self, name: str, reader: Callable[[str], Value], default: Value) -> Value:
        """Return the parameter as read by ``reader``, whose ValueError becomes :class:`InvalidParameter`."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return reader(text)
        except ValueError as error:
            raise InvalidParameter.named(name, str(error)) from error

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""

        def reader(text: str) -> int:
            if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
                raise ValueError(f"expected a whole number from {low} to {high}")
            return int(text)

        return self.read(name, reader, default)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return one of ``choices``."""

        def reader(text: str) -> str:
            if text not in choices:
                raise ValueError(f"expected one of {', '.join(choices)}")
            return text

        return self.read(name, reader, default)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return the value of ``true`` or ``false`` (also 1 and 0)."""

        def reader(text: str) -> bool:
            if text not in {"true", "false", "1", "0"}:
                raise ValueError("expected true or false")
            return text in {"true", "1"}

        return self.read(name, reader, default)

    def window(self, *, now: datetime) -> TimeRange:
        """Return the time range of ``from`` and ``to``; see :mod:`server.text.instants`."""
        start = self.read("from", lambda text: parse_instant(text, now=now), None)
        end = self.read("to", lambda text: parse_instant(text, now=now, round_up=True), None)
        try:
            return check_range(TimeRange(start, end), now=now, longest=LONGEST_RANGE)
        except ValueError as error:
            raise InvalidParameter.named("from", str(error)) from error

    def filters(self) -> list[GivenParameter]:
        """Return all parameters that are filters, for
        :func:`server.queries.filters.filter_params.filter_from_params`.
        """
        return list(self._filters())

    def finish(self) -> None:
        """Raise :class:`UnknownParameter` for every parameter that nobody has read, with a suggestion."""
        unknown = [name for name, negated in self.given if (name, negated) not in self.taken]
        if not unknown:
            return
        errors = [
            {
                "parameter": name[:64],
                "detail": "unknown" + (self._meant(name) or "; /docs has those of this route"),
            }
            for name in dict.fromkeys(unknown)
        ]
        first = errors[0]
        raise UnknownParameter(f"{first['parameter']}: {first['detail']}", errors=errors)

    def _meant(self, name: str) -> str:
        """Return the rest of a sentence: the parameter that an unknown ``name`` stands for; empty if none does."""
        folded = name.lower()
        meant = [known for known in (_NAMES_ELSEWHERE.get(folded), *parameters_of(folded)) if known in self.asked]
        return f"; did you mean {' or '.join(meant)}?" if meant else suggest_or_list(name, self.asked)

    def _filters(self) -> Iterator[GivenParameter]:
        self.asked |= FILTER_PARAMETERS.keys()
        for (name, negated), values in self.given.items():
            parameter = filter_parameter(name)
            if parameter is None or (name, negated) in self.taken:
                continue
            self.taken.add((name, negated))
            if parameter.is_list:
                yield GivenParameter(name, tuple(dict.fromkeys(_split(name, values, LONGEST_LIST))), negated)
            elif len(values) > 1:
                raise InvalidParameter.named(name, "is given more than once")
            else:
                yield GivenParameter(name, tuple(values), negated)

    def _take(self, name: str) -> list[str]:
        self.asked.add(name)
        if (name, True) in self.given:
            raise InvalidParameter.named(name, "cannot be negated")
        self.taken.add((name, False))
        return self.given.get((name, False), [])


def _split(name: str, values: Sequence[str], most: int) -> tuple[str, ...]:
    items = tuple(item.strip() for value in values for item in value.split(","))
    if not all(items):
        raise InvalidParameter.named(name, "has an empty item")
    if len(items) > most:
        raise InvalidParameter.named(name, f"takes at most {most} values")
    return items


def _decode(raw: bytes, name: str) -> str:
    if _BAD_ESCAPE.search(raw):
        raise _unreadable(name, "has an incomplete %-escape")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
        check_characters(text)
    except UnicodeDecodeError as error:
        raise _unreadable(name, "is not UTF-8") from error
    except ValueError as error:
        raise _unreadable(name, str(error)) from error
    return text


def _unreadable(name: str, detail: str) -> ApiError:
    return InvalidParameter.named(name[:64], detail)
