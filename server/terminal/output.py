"""Words to the person at the terminal: on standard error, so that standard output holds results only."""

from __future__ import annotations

import sys


class CommandFailed(Exception):
    """The command cannot do what was asked; the message says why."""


def say(sentence: str) -> None:
    """Prints a line of news at once."""
    print(f"llm-observatory: {sentence}", file=sys.stderr, flush=True)
