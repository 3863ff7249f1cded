"""Values of dashboard variables, read back from the forms in which they arrive in a payload.

The plugin replaces variables in the browser. The form of the result depends on the editor mode, the format that the
author wrote and the number of chosen values (docs/reference/grafana-datasource.md lists every form). This module turns
each of them back into values:

==========================  ===========================  ==========================================
form                        example                      written by
==========================  ===========================  ==========================================
query string (lossless)     ``var-model=a&var-model=b``  ``${model:queryparam}``; All: ``$__all``
JSON array                  ``["a", "b"]``               ``$model`` unquoted; ``${model:json}``
regular expression          ``(gpt-5|gpt-4\\.1)``         builder mode, for two or more values
escaped text                ``gpt-4\\.1``                 builder mode, for one value
comma list                  ``a,b``                      ``${model:csv}``
braces, percent-encoded     ``%7Ba%2Cb%7D``              ``${model:percentencode}``
braces                      ``{a,b}``                    ``${model:glob}``
==========================  ===========================  ==========================================

Nothing chosen, ``$__all``, ``All``, ``*`` and ``.*`` mean "no filter". A reference that was not replaced (``$model``)
is an error: read as a value, it would make another question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

from server.errors import InvalidParameter

MAX_VALUES: Final = 1000
MAX_TEXT: Final = 4096

_EVERYTHING: Final = frozenset({"", "$__all", "__all", "All", "*", ".*"})
_QUERY_STRING: Final = re.compile(r"var-[^=&]*=")
_REFERENCE: Final = re.compile(r"\$[A-Za-z_]\w*|\$\{[\w.]+(?::[^}]*)?\}|\[\[[\w.]+(?::[^\]]*)?\]\]")
_NEVER_REPLACED_MEANS_EMPTY: Final = frozenset({"$__searchFilter", "${__searchFilter}"})
_ESCAPED: Final = re.compile(r"\\([\\^$*+?.()|\[\]{}/-])")
_ENCODED_BRACES: Final = re.compile(r"%7B.*%7D", re.DOTALL)
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_values(name: str, raw: Any, *, escaped: bool = False) -> tuple[str, ...]:
    """Return the values of the list field ``name``, without duplicates; empty means "no filter".

    ``escaped``: the text went through the plugin's 'regex' formatter (builder mode and variables of format "string").
    Raises :class:`InvalidParameter` for objects, for a reference that was not replaced and for more than 1,000 values.
    """
    values = tuple(dict.fromkeys(_split(name, raw, escaped)))
    if len(values) > MAX_VALUES:
        raise InvalidParameter.named(name, f"at most {MAX_VALUES} values, got {len(values)}")
    for value in values:
        _check_length(name, value)
    return values


def parse_text(name: str, raw: Any, *, escaped: bool = False) -> str | None:
    """Return the one value of the text field ``name``, commas included; ``None`` if nothing is set.

    Raises :class:`InvalidParameter` when there are two values, or a reference that was not replaced.
    """
    if isinstance(raw, str):
        if _QUERY_STRING.match(raw):
            values = _query_string_values(raw)
        else:
            values = [_checked(name, _unescape(raw) if escaped else raw)]
            values = [] if values[0] in _EVERYTHING else values
    else:
        values = list(parse_values(name, raw, escaped=escaped))
    if len(values) > 1:
        raise InvalidParameter.named(name, f"takes one value, got {len(values)}")
    if not values:
        return None
    _check_length(name, values[0])
    return values[0]


def parse_number(name: str, raw: Any) -> float | None:
    """Return a finite number that may arrive as text; ``None`` if nothing is set."""
    if isinstance(raw, bool):
        raise InvalidParameter.named(name, "must be a number")
    text = parse_text(name, raw, escaped=True)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        raise InvalidParameter.named(name, "must be a number") from None
    if not -1e15 < number < 1e15:
        raise InvalidParameter.named(name, "must be a finite number")
    return number


def parse_integer(name: str, raw: Any, *, least: int, most: int) -> int | None:
    """Return a whole number from ``least`` to ``most``; ``None`` when nothing is set."""
    number = parse_number(name, raw)
    if number is None:
        return None
    if number != int(number) or not least <= number <= most:
        raise InvalidParameter.named(name, f"must be a whole number from {least} to {most}")
    return int(number)


def parse_boolean(name: str, raw: Any) -> bool | None:
    """Parse ``true``/``false`` as such or as text; return ``None`` if nothing is set."""
    if isinstance(raw, bool):
        return raw
    text = parse_text(name, raw, escaped=True)
    if text is None:
        return None
    answer = _BOOLEANS.get(text.lower())
    if answer is None:
        raise InvalidParameter.named(name, "must be true or false")
    return answer


def parse_choices(name: str, raw: Any, allowed: Iterable[str], *, escaped: bool = False) -> tuple[str, ...]:
    """Return the values of the list field ``name``, each one of ``allowed``; raises :class:`InvalidParameter`
    otherwise.
    """
    values = parse_values(name, raw, escaped=escaped)
    known = list(allowed)
    for value in values:
        if value not in known:
            raise InvalidParameter.named(name, f"must be one of {', '.join(known)}, got {value!r}")
    return values


def variable_values(raw: str) -> dict[str, str]:
    """Split ``${__all_variables}``: for each variable its own query string ``var-name=…``."""
    found: dict[str, list[str]] = {}
    for pair in raw.split("&"):
        key = pair.partition("=")[0]
        if key.startswith("var-"):
            found.setdefault(unquote(key[4:]), []).append(pair)
    return {name: "&".join(pairs) for name, pairs in found.items()}


def _split(name: str, raw: Any, escaped: bool) -> list[str]:
    match raw:
        case None:
            return []
        case bool():
            return [str(raw).lower()]
        case int() | float():
            return [format(raw, "g") if isinstance(raw, float) else str(raw)]
        case list() | tuple():
            return [value for item in raw for value in _list_item(name, item, escaped)]
        case str():
            return _split_text(name, raw, escaped)
        case _:
            raise InvalidParameter.named(name, "must be text or a list of texts")


def _list_item(name: str, item: Any, escaped: bool) -> list[str]:
    """Return the values in one item of a list: the text as it is, unless it has a form that only the plugin writes."""
    if not isinstance(item, str):
        return _split(name, None if isinstance(item, (list, dict)) else item, escaped)
    if _QUERY_STRING.match(item):
        return _query_string_values(item)
    if escaped:
        return _split_text(name, item, escaped)
    value = _checked(name, item)
    return [] if value in _EVERYTHING else [value]


def _split_text(name: str, text: str, escaped: bool) -> list[str]:
    if _QUERY_STRING.match(text):
        return _query_string_values(text)
    if text.startswith("[") and text.endswith("]") and not _REFERENCE.fullmatch(text):
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if isinstance(parsed, list):
            return [value for item in parsed for value in _list_item(name, item, escaped=False)]
    if text.startswith("(") and text.endswith(")") and "|" in text:
        parts = [_unescape(part) for part in re.split(r"(?<!\\)\|", text[1:-1])]
    else:
        if _ENCODED_BRACES.fullmatch(text):
            text = unquote(text)
        if text.startswith("{") and text.endswith("}"):
            text = text[1:-1]
            parts = text.split(",")
        else:
            parts = [_unescape(part) if escaped else part for part in _checked(name, text).split(",")]
    values = [_checked(name, part.strip()) for part in parts]
    return [value for value in values if value not in _EVERYTHING]


def _query_string_values(text: str) -> list[str]:
    """Return the values of ``var-x=…&var-x=…``. Lossless, so only an empty value and ``$__all`` mean "no filter"."""
    values = (unquote(pair.partition("=")[2]) for pair in text.split("&"))
    return [value for value in values if value not in ("", "$__all")]


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _checked(name: str, value: str) -> str:
    """Return ``value``; raise if it is a variable that was not replaced."""
    if value in _NEVER_REPLACED_MEANS_EMPTY:
        return ""
    if value != "$__all" and _REFERENCE.fullmatch(value):
        raise InvalidParameter.named(name, f"variable {value} was not replaced")
    return value


def _check_length(name: str, value: str) -> None:
    if len(value) > MAX_TEXT or "\x00" in value:
        raise InvalidParameter.named(name, f"must be at most {MAX_TEXT} characters without NUL")
