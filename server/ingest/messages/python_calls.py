"""Arguments of a call as instrumentations write those of a wrapped function: ``{"args": [], "kwargs": {…}}``."""

from __future__ import annotations

from typing import Any, Final

_OF_A_CALL: Final = frozenset({"args", "kwargs", "sanitize_inputs_outputs"})
"""What a wrapped method of a tool takes; the last is smolagents' own."""
_RUN_OF_SMOLAGENTS: Final = frozenset({"task", "stream", "reset"})
"""Arguments that every run of an agent of smolagents has, beside five others."""


def arguments_of_tool(value: Any) -> Any:
    """Return the tool's own arguments, if the value is a call by names alone; else the value itself.

    >>> arguments_of_tool({"args": [], "kwargs": {"city": "Paris"}, "sanitize_inputs_outputs": True})
    {'city': 'Paris'}
    """
    if type(value) is not dict or not value.keys() <= _OF_A_CALL or value.get("args"):
        return value
    named = value.get("kwargs")
    return named if type(named) is dict and named else value


def task_of_run(value: dict[str, Any]) -> str | None:
    """Return the task that the arguments of an agent's run give it."""
    task = value.get("task") if value.keys() >= _RUN_OF_SMOLAGENTS else None
    return task if isinstance(task, str) and task else None
