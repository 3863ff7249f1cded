"""Evaluates a planned expression at all its steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np

from datasource.prometheus.promql import (
    aggregation,
    binary,
    elementwise,
    histograms,
    label_functions,
    range_functions,
)
from datasource.prometheus.promql.bounds import check_time
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.plan import (
    Absent,
    InnerSteps,
    Leaf,
    Planned,
    PlannedAggregation,
    PlannedBinary,
    PlannedCall,
    PlannedNegation,
)
from datasource.prometheus.promql.syntax import NAME_LABEL, Matcher, Number, Text
from datasource.prometheus.promql.values import (
    Flags,
    Floats,
    Histograms,
    Ints,
    Labels,
    Scalar,
    Series,
    Value,
    Vector,
    Windows,
    labels_of,
)

_CLAMPS: Final = frozenset({"clamp", "clamp_min", "clamp_max"})
_SORTS: Final = frozenset({"sort", "sort_desc"})
_LABEL_SORTS: Final = frozenset({"sort_by_label", "sort_by_label_desc"})
_NATIVE: Final = {
    "histogram_count": histograms.native_count,
    "histogram_sum": histograms.native_sum,
    "histogram_avg": histograms.native_average,
    "histogram_stdvar": histograms.native_variance,
}
_OF_HISTOGRAMS: Final = (*_NATIVE, "histogram_stddev", "histogram_quantile", "histogram_fraction")
FUNCTIONS: Final = frozenset(
    {
        *elementwise.MATHS,
        *elementwise.DATES,
        *range_functions.WINDOW_FUNCTIONS,
        *_CLAMPS,
        *_SORTS,
        *_LABEL_SORTS,
        *_OF_HISTOGRAMS,
        "round",
        "pi",
        "time",
        "timestamp",
        "vector",
        "scalar",
        "absent",
        "absent_over_time",
        "label_replace",
        "label_join",
    }
)
"""Every function that is supported."""


class Evaluation:
    """Evaluates the parts of one question over what was read for it."""

    def __init__(self, answers: Sequence[Value]) -> None:
        self._answers = answers

    def value(self, expr: Planned, times: Ints) -> Value:
        """Return the value of ``expr`` at ``times``. Raises :class:`ExecutionError`."""
        with np.errstate(all="ignore"):
            return self._value(expr, times)

    def _value(self, expr: Planned, times: Ints) -> Value:
        check_time()
        match expr:
            case Leaf():
                return self._leaf(expr)
            case Number(value):
                return Scalar(np.full(len(times), value))
            case Text(value):
                return value
            case InnerSteps():
                return self._windows(expr, times)
            case PlannedNegation(inner):
                return self._negated(self._value(inner, times))
            case PlannedBinary():
                return self._binary(expr, times)
            case PlannedAggregation():
                return self._aggregation(expr, times)
            case Absent(_, inner, matchers):
                return _absent(self._value(inner, times), matchers, len(times))
            case PlannedCall():
                return self._call(expr, times)
            case _:
                raise AssertionError(expr)

    def _leaf(self, leaf: Leaf) -> Value:
        found = self._answers[leaf.read]
        if leaf.divisor == 1.0:
            return found
        if isinstance(found, Vector):
            return Vector(found.labels, found.values / leaf.divisor, found.present)
        if isinstance(found, Histograms):
            return histograms.scaled(found, np.full(found.steps, 1 / leaf.divisor))
        raise TypeError("only vectors and histograms are divided")

    def _windows(self, inner: InnerSteps, times: Ints) -> Windows:
        found = self._value(inner.expr, inner.times)
        if isinstance(found, Scalar):
            found = Vector([()], found.values[None, :], np.ones((1, len(inner.times)), dtype=bool))
        if not isinstance(found, Vector):
            raise ExecutionError("a subquery over native histograms is not supported")
        series = [
            Series(labels, inner.times[found.present[row]], found.values[row, found.present[row]])
            for row, labels in enumerate(found.labels)
        ]
        return Windows(series, inner.ends, inner.range, times)

    def _negated(self, value: Value) -> Value:
        if isinstance(value, Scalar):
            return Scalar(-value.values)
        return binary.negated(_vector(value, "negation"))

    def _binary(self, expr: PlannedBinary, times: Ints) -> Value:
        op, returns_bool = expr.node.op, expr.node.returns_bool
        left, right = self._value(expr.left, times), self._value(expr.right, times)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            return binary.of_scalars(op, left, right)
        if isinstance(left, Histograms) and isinstance(right, Scalar) and op in ("*", "/"):
            return histograms.scaled(left, right.values if op == "*" else 1 / right.values)
        if isinstance(left, Scalar) and isinstance(right, Histograms) and op == "*":
            return histograms.scaled(right, left.values)
        if isinstance(right, Scalar):
            return binary.with_scalar(op, _vector(left, op), right, scalar_is_left=False, returns_bool=returns_bool)
        if isinstance(left, Scalar):
            return binary.with_scalar(op, _vector(right, op), left, scalar_is_left=True, returns_bool=returns_bool)
        return binary.of_vectors(
            op, _vector(left, op), _vector(right, op), expr.node.matching, returns_bool=returns_bool
        )

    def _aggregation(self, expr: PlannedAggregation, times: Ints) -> Value:
        node = expr.node
        found = self._value(expr.expr, times)
        if isinstance(found, Histograms):
            groups = aggregation.group_labels(found.labels, node.labels, is_without=node.without)
            if node.op == "sum":
                return histograms.add_groups(found, groups)
            found = _vector(found, node.op)
        vector = _vector(found, node.op)
        groups = aggregation.group_labels(vector.labels, node.labels, is_without=node.without)
        if node.op == "count_values":
            return aggregation.count_values(_text(self._value(expr.param or Text(""), times)), vector, groups)
        param = np.zeros(len(times)) if expr.param is None else _numbers(self._value(expr.param, times))
        if node.op in aggregation.CHOOSERS:
            return aggregation.choose(node.op, vector, groups, param)
        return aggregation.reduce_groups(node.op, vector, groups, param)

    def _call(self, expr: PlannedCall, times: Ints) -> Value:
        function = expr.function
        args = [self._value(item, times) for item in expr.args]
        if function in range_functions.WINDOW_FUNCTIONS:
            return _over_windows(function, args)
        if function in elementwise.MATHS:
            vector = _vector(args[0], function)
            return vector.mapped(elementwise.MATHS[function](vector.values))
        if function in elementwise.DATES:
            return _date(function, args, times)
        if function in _CLAMPS:
            return _clamped(function, args, times)
        if function in _OF_HISTOGRAMS:
            return _of_histograms(function, args)
        match function:
            case "time":
                return Scalar(times / 1000.0)
            case "pi":
                return Scalar(np.full(len(times), np.pi))
            case "vector":
                return Vector([()], _numbers(args[0])[None, :], np.ones((1, len(times)), dtype=bool))
            case "scalar":
                return elementwise.scalar_of(_vector(args[0], function))
            case "timestamp":
                return elementwise.timestamps(_vector(args[0], function), times)
            case "round":
                nearest = _numbers(args[1]) if len(args) > 1 else np.ones(len(times))
                return elementwise.rounded(_vector(args[0], function), nearest)
            case "label_replace":
                texts = [_text(item) for item in args[1:]]
                return label_functions.label_replace(_vector(args[0], function), *texts)
            case "label_join":
                target, separator, *sources = (_text(item) for item in args[1:])
                return label_functions.label_join(_vector(args[0], function), target, separator, sources)
            case "sort" | "sort_desc":
                return _sorted(_vector(args[0], function), descending=function == "sort_desc")
            case "sort_by_label" | "sort_by_label_desc":
                names = [_text(item) for item in args[1:]]
                descending = function == "sort_by_label_desc"
                return label_functions.sorted_by_label(_vector(args[0], function), names, descending=descending)
            case _:
                raise AssertionError(function)


def _vector(value: Value, use: str) -> Vector:
    if isinstance(value, Histograms):
        raise histograms.refuse(use)
    if not isinstance(value, Vector):
        raise TypeError(f"{use} of no vector: the parser lets none through")
    return value


def _numbers(value: Value) -> Floats:
    if not isinstance(value, Scalar):
        raise TypeError("no scalar: the parser lets none through")
    return value.values


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError("no string: the parser lets none through")
    return value


def _over_windows(function: str, args: Sequence[Value]) -> Vector:
    windows = next(item for item in args if isinstance(item, Windows))
    return range_functions.apply(function, windows, [_numbers(item) for item in args if not isinstance(item, Windows)])


def _date(function: str, args: Sequence[Value], times: Ints) -> Vector:
    if not args:
        return Vector(
            [()], elementwise.date_part(function, times / 1000.0)[None, :], np.ones((1, len(times)), dtype=bool)
        )
    vector = _vector(args[0], function)
    return vector.mapped(elementwise.date_part(function, vector.values))


def _clamped(function: str, args: Sequence[Value], times: Ints) -> Vector:
    unlimited = np.full(len(times), np.inf)
    low = _numbers(args[1]) if function != "clamp_max" else -unlimited
    high = _numbers(args[-1]) if function != "clamp_min" else unlimited
    return elementwise.clamp(_vector(args[0], function), low, high)


def _of_histograms(function: str, args: Sequence[Value]) -> Vector:
    native = args[-1]
    if not isinstance(native, Histograms):
        vector = _vector(native, function)
        if function == "histogram_quantile":
            return histograms.classic_quantile(_numbers(args[0]), vector)
        if function == "histogram_fraction":
            return histograms.classic_fraction(_numbers(args[0]), _numbers(args[1]), vector)
        # As in Prometheus: values that are no histograms are left out.
        return Vector([], vector.values[:0], vector.present[:0])
    if function == "histogram_quantile":
        return histograms.native_quantile(_numbers(args[0]), native)
    if function == "histogram_fraction":
        return histograms.native_fraction(_numbers(args[0]), _numbers(args[1]), native)
    if function == "histogram_stddev":
        squared = histograms.native_variance(native)
        return Vector(squared.labels, np.sqrt(squared.values), squared.present)
    return _NATIVE[function](native)


def _sorted(vector: Vector, *, descending: bool) -> Vector:
    """Return the rows by their last value; NaN comes last. Of use for a single step only, as in Prometheus."""
    last = vector.values[:, -1]
    order = np.argsort(np.where(np.isnan(last), np.inf, -last if descending else last), kind="stable").tolist()
    return Vector([vector.labels[row] for row in order], vector.values[order], vector.present[order])


def _absent(value: Value, matchers: Sequence[Matcher], steps: int) -> Vector:
    """Return 1 where there is no series at all, with the labels that the selector fixes."""
    if isinstance(value, Windows):
        filled: Flags = np.zeros(steps, dtype=bool)
        for series in value.series:
            first, last = value.bounds(series)
            filled |= last > first
    else:
        # A scalar has no place here, the parser says.
        filled = np.asarray(cast(Vector | Histograms, value).present.any(axis=0))
    equal = [item for item in matchers if item.name != NAME_LABEL]
    names = [item.name for item in equal]
    labels: Labels = labels_of((i.name, i.value) for i in equal if i.kind == "=" and names.count(i.name) == 1)
    return Vector([labels], np.ones((1, steps)), ~filled[None, :])
