"""Messages to the person at the terminal: on standard error, so that standard output holds results only."""

from __future__ import annotations

import sys


class CommandFailed(Exception):
    """The command cannot be carried out; the message says why."""


def say(sentence: str) -> None:
    """Print a line of news at once."""
    print(f"llm-observatory: {sentence}", file=sys.stderr, flush=True)
