"""From the text of a question to its value: parse, check, plan, read, evaluate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

import numpy as np

from datasource.prometheus.promql.aggregation import AGGREGATIONS
from datasource.prometheus.promql.bounds import EVALUATION_SECONDS, check_samples, deadline
from datasource.prometheus.promql.errors import ParseError, WrongType
from datasource.prometheus.promql.evaluate import FUNCTIONS, Evaluation
from datasource.prometheus.promql.parse import locate, parse
from datasource.prometheus.promql.plan import Planned, Planner, Read, SeriesSource
from datasource.prometheus.promql.syntax import Aggregation, Call, Expr, ValueType, type_of, walk
from datasource.prometheus.promql.values import Histograms, Ints, Scalar, Value, Vector, Windows, size_of

InThread = Callable[[Callable[[], Value]], Awaitable[Value]]
"""Runs a function beside the event loop."""


@dataclass(frozen=True, slots=True)
class Question:
    """A checked expression at ``times`` (ms); ``end`` is what was asked, which need not be a step."""

    expr: Expr
    times: Ints
    type: ValueType
    end: int


@dataclass(frozen=True, slots=True)
class Result:
    """The value of an expression at ``times``. ``samples``: values read for it, ``peak``: most of one read or the
    answer.
    """

    type: ValueType
    value: Value
    times: Ints
    samples: int = 0
    peak: int = 0


def instant_question(text: str, time: int) -> Question:
    """Parse ``text`` for one moment. Raises :class:`ParseError`."""
    expr = parsed(text)
    return Question(expr, np.array([time], dtype=np.int64), type_of(expr), time)


def range_question(text: str, start: int, end: int, step: int) -> Question:
    """Parse ``text`` for every ``step`` from ``start`` to ``end``, both included. Raises :class:`ParseError`."""
    expr = parsed(text)
    kind = type_of(expr)
    if kind not in ("scalar", "vector"):
        words = {"matrix": "range vector", "string": "string"}
        raise WrongType(f'invalid expression type "{words[kind]}" for range query, must be Scalar or instant Vector')
    return Question(expr, np.arange(start, end + 1, step, dtype=np.int64), kind, end)


def parsed(text: str) -> Expr:
    """Return the tree of ``text``; all its functions and aggregations are supported. Raises :class:`ParseError`."""
    expr = parse(text)
    for part in walk(expr):
        if isinstance(part, Call) and part.function not in FUNCTIONS:
            raise ParseError(f"function {part.function}() is not supported", locate(text, part.function) or 0)
        if isinstance(part, Aggregation) and part.op not in AGGREGATIONS:
            raise ParseError(f"aggregation {part.op}() is not supported", locate(text, part.op) or 0)
    return expr


async def answer(question: Question, source: SeriesSource, in_thread: InThread = asyncio.to_thread) -> Result:
    """Read what ``question`` needs and compute it, by ``in_thread``. Raises :class:`PromqlError` and what the source
    raises.
    """
    times = question.times
    planner = Planner(source, int(times[0]), question.end)
    planned = planner.plan(question.expr, times)
    answers: list[Value] = []
    samples = 0
    for read in planner.reads:
        answers.append(await source.read(read))
        samples += size_of(answers[-1])
        check_samples(1, samples)
    # Whole tables of numbers: off the event loop.
    value = await in_thread(partial(_evaluated, planned, answers, times))
    sizes = [_size(item) for item in answers]
    return Result(question.type, value, times, sum(sizes), max((*sizes, _size(value))))


def _size(value: Value) -> int:
    """Return how many values there are; those of overlapping windows count in each."""
    match value:
        case Vector() | Histograms():
            return int(value.present.sum())
        case Windows():
            bounds = (value.bounds(series) for series in value.series)
            return sum(int((last - first).sum()) for first, last in bounds)
        case Scalar():
            return len(value.values)
        case _:
            return 1


def _evaluated(planned: Planned, answers: Sequence[Value], times: Ints) -> Value:
    deadline.set(monotonic() + EVALUATION_SECONDS)
    return Evaluation(answers).value(planned, times)


def reads_of(question: Question, source: SeriesSource) -> list[Read]:
    """Return the reads that ``question`` needs from ``source``."""
    planner = Planner(source, int(question.times[0]), question.end)
    planner.plan(question.expr, question.times)
    return planner.reads
