"""``ingest`` and ``rollup``: traces from files, and aggregates made anew."""

from __future__ import annotations

from server.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Adds the commands to the parser."""
