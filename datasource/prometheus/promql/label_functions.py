"""``label_replace``, ``label_join`` and orders by label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from datasource.prometheus.promql.bounds import check_label, check_time
from datasource.prometheus.promql.errors import ExecutionError, ParseError
from datasource.prometheus.promql.syntax import NAME_LABEL, compiled_pattern, is_label_name
from datasource.prometheus.promql.values import Labels, Vector, label, labels_of, merged

_REFERENCE: Final = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
_DIGITS: Final = re.compile(r"([0-9]+)")
_SHORT_NUMBER: Final = re.compile(r"[0-9]{1,4}")


def label_replace(vector: Vector, target: str, replacement: str, source: str, pattern: str) -> Vector:
    """Set ``target`` to ``replacement`` where the whole value of ``source`` matches; ``$1`` and ``${name}`` are its
    groups. Raises :class:`ExecutionError`."""
    _check_name(target, "label_replace")
    try:
        compiled = compiled_pattern(f"(?s:{pattern})")
    except ParseError as error:
        raise ExecutionError(f"invalid regular expression in label_replace(): {pattern[:100]}") from error

    def changed(labels: Labels) -> Labels:
        found = compiled.fullmatch(label(labels, source))
        if found is None:
            return labels

        def group(reference: re.Match[str]) -> str:
            if reference[1]:
                return "$"
            name = reference[2] or reference[3]
            try:
                return found[int(name) if _SHORT_NUMBER.fullmatch(name) else name] or ""
            except (IndexError, KeyError):
                return ""

        return labels_of((*labels, (target, check_label(_REFERENCE.sub(group, replacement)))))

    return _relabelled(vector, [changed(labels) for labels in vector.labels])


def label_join(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    """Set ``target`` to the values of ``sources``. Raises :class:`ExecutionError`."""
    _check_name(target, "label_join")
    for source in sources:
        if not is_label_name(source):
            raise ExecutionError(f"invalid source label name in label_join(): {source}")
    return _relabelled(
        vector,
        [
            labels_of((*labels, (target, check_label(separator.join(label(labels, source) for source in sources)))))
            for labels in vector.labels
        ],
    )


def sorted_by_label(vector: Vector, names: Sequence[str], *, descending: bool) -> Vector:
    """Return the rows in natural order of the labels ``names``, then of all labels."""

    def natural(text: str) -> list[tuple[int, int, str]]:
        """Return a sort key: numbers in ``text`` go by their length without leading zeros, then as text, so they may be
        long."""
        return [
            (0, len(part.lstrip("0")), part.lstrip("0")) if _DIGITS.fullmatch(part) else (1, 0, part)
            for part in _DIGITS.split(text)
            if part
        ]

    order = sorted(
        range(len(vector.labels)),
        key=lambda row: ([natural(label(vector.labels[row], name)) for name in names], vector.labels[row]),
        reverse=descending,
    )
    return Vector([vector.labels[row] for row in order], vector.values[order], vector.present[order])


def _check_name(name: str, function: str) -> None:
    if not is_label_name(name) and name != NAME_LABEL:
        raise ExecutionError(f"invalid destination label name in {function}(): {name}")


def _relabelled(vector: Vector, labels: list[Labels]) -> Vector:
    check_time()
    return merged(Vector(labels, vector.values, vector.present, vector.stamps))
