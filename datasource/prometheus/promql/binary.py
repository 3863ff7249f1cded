"""Binary operators: arithmetic, comparisons that filter or give 0 and 1, and set operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from datasource.prometheus.promql.bounds import check_samples, check_time
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.syntax import NAME_LABEL, Matching
from datasource.prometheus.promql.values import (
    Flags,
    Floats,
    Labels,
    Scalar,
    Vector,
    empty_vector,
    grouped,
    label,
    labels_of,
    merged,
    nameless,
    only,
    without,
    written,
)

ARITHMETIC: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}
COMPARISONS: Final[dict[str, Callable[[Floats, Floats], Flags]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
SET_OPERATORS: Final = ("and", "or", "unless")


def of_scalars(op: str, left: Scalar, right: Scalar) -> Scalar:
    """Combine two numbers; a comparison returns 0 or 1."""
    if op in ARITHMETIC:
        return Scalar(ARITHMETIC[op](left.values, right.values))
    return Scalar(COMPARISONS[op](left.values, right.values).astype(np.float64))


def with_scalar(op: str, vector: Vector, scalar: Scalar, *, scalar_is_left: bool, returns_bool: bool) -> Vector:
    """Combine a vector with a number. A comparison that filters keeps the vector's values and names."""
    sides = (scalar.values, vector.values) if scalar_is_left else (vector.values, scalar.values)
    if op in ARITHMETIC:
        return vector.mapped(ARITHMETIC[op](*sides))
    kept = COMPARISONS[op](*sides)
    if returns_bool:
        return vector.mapped(kept.astype(np.float64))
    return Vector(vector.labels, vector.values, vector.present & kept, vector.stamps)


def of_vectors(op: str, left: Vector, right: Vector, matching: Matching, *, returns_bool: bool) -> Vector:
    """Combine two vectors. Raises :class:`ExecutionError` where a series has more than one match."""
    if op in SET_OPERATORS:
        return _SETS[op](left, right, matching)
    many_is_right = matching.card == "one-to-many"
    many, one = (right, left) if many_is_right else (left, right)
    is_one_to_one = matching.card == "one-to-one"
    ones = grouped(_signatures(one.labels, matching))
    manies = grouped(_signatures(many.labels, matching))
    labels: list[Labels] = []
    rows: list[Floats] = []
    flags: list[Flags] = []
    for signature, places in manies.items():
        partners = ones.get(signature)
        if partners is None:
            continue
        _check_unique(one, partners, signature, "left" if many_is_right else "right")
        steps = many.values.shape[1]
        matched_so_far = np.zeros(steps, dtype=bool)
        for place in places:
            check_time()
            check_samples(len(labels) + len(partners), steps)
            for partner in partners:
                first, second = many.values[place], one.values[partner]
                if many_is_right:
                    first, second = second, first
                present = many.present[place] & one.present[partner]
                if op in ARITHMETIC:
                    value = ARITHMETIC[op](first, second)
                elif returns_bool:
                    value = COMPARISONS[op](first, second).astype(np.float64)
                else:
                    value = first
                    present = present & COMPARISONS[op](first, second)
                if is_one_to_one and (matched_so_far & present).any():
                    raise ExecutionError(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    )
                matched_so_far |= present
                labels.append(_result_labels(many.labels[place], one.labels[partner], op, matching, returns_bool))
                rows.append(value)
                flags.append(present)
    if not labels:
        return empty_vector(many.values.shape[1])
    try:
        return merged(Vector(labels, np.array(rows), np.array(flags)))
    except ExecutionError as error:
        raise ExecutionError("multiple matches for labels: grouping labels must ensure unique matches") from error


def _signatures(labels: Sequence[Labels], matching: Matching) -> list[Labels]:
    if matching.on:
        return [only(item, matching.labels) for item in labels]
    dropped = (*matching.labels, NAME_LABEL)
    return [without(item, dropped) for item in labels]


def _check_unique(one: Vector, places: Sequence[int], signature: Labels, side: str) -> None:
    if len(places) > 1 and one.present[list(places)].sum(axis=0).max() > 1:
        series = ", ".join(written(one.labels[place]) for place in places[:2])
        raise ExecutionError(
            f"found duplicate series for the match group {written(signature)} on the {side} hand-side of the operation:"
            f" [{series}];many-to-many matching not allowed: matching labels must be unique on one side"
        )


def _result_labels(many: Labels, one: Labels, op: str, matching: Matching, returns_bool: bool) -> Labels:
    found = without(many, (NAME_LABEL,)) if op in ARITHMETIC or returns_bool else many
    if matching.card == "one-to-one":
        return only(found, matching.labels) if matching.on else without(found, matching.labels)
    if matching.include:
        return labels_of((*found, *((name, label(one, name)) for name in matching.include)))
    return found


def _has_match(vector: Vector, other: Vector, matching: Matching) -> Flags:
    """Return where a series of ``vector`` has a partner in ``other``."""
    partners = grouped(_signatures(other.labels, matching))
    found = np.zeros_like(vector.present)
    for row, signature in enumerate(_signatures(vector.labels, matching)):
        places = partners.get(signature)
        if places is not None:
            found[row] = other.present[places].any(axis=0)
    return found


def _and(left: Vector, right: Vector, matching: Matching) -> Vector:
    return Vector(left.labels, left.values, left.present & _has_match(left, right, matching), left.stamps)


def _unless(left: Vector, right: Vector, matching: Matching) -> Vector:
    return Vector(left.labels, left.values, left.present & ~_has_match(left, right, matching), left.stamps)


def _or(left: Vector, right: Vector, matching: Matching) -> Vector:
    check_samples(len(left.labels) + len(right.labels), left.values.shape[1])
    added = right.present & ~_has_match(right, left, matching)
    return merged(
        Vector(
            left.labels + right.labels,
            np.concatenate((left.values, right.values)),
            np.concatenate((left.present, added)),
        )
    )


_SETS: Final = {"and": _and, "or": _or, "unless": _unless}


def negated(vector: Vector) -> Vector:
    """Return the opposite values."""
    return nameless(Vector(vector.labels, -vector.values, vector.present))
