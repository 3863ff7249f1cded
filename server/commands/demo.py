"""``demo``: everything at once, with believable data."""

from __future__ import annotations

from server.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
