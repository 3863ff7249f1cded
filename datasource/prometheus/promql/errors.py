"""Faults of a PromQL question, in Prometheus' words."""

from __future__ import annotations


class PromqlError(Exception):
    """An expression cannot be answered; ``kind`` is Prometheus' errorType."""

    kind = "execution"


class ParseError(PromqlError):
    """The text is not an expression, or one of a kind that is not supported.

    ``place`` is the offset of the fault in the text.
    """

    kind = "bad_data"

    def __init__(self, message: str, place: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def described(self, text: str) -> str:
        """Return the message with line and column, as Prometheus writes it."""
        before = text[: self.place]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        return f"{line}:{column}: parse error: {self.message}"


class WrongType(ParseError):
    """The expression is well formed and its value is of a type that was not asked for."""

    def described(self, text: str) -> str:
        """Return the message: no place is at fault."""
        return self.message


class ExecutionError(PromqlError):
    """The expression is well formed and cannot be computed over these series."""


class TooMuch(PromqlError):
    """The answer or its parts would be larger than is allowed."""


class TookTooLong(PromqlError):
    """The expression was given up."""

    kind = "timeout"
