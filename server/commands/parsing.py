"""Parts that the commands' parsers share: their look, and types of arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any

Commands = Any
"""The result of ``add_subparsers``; argparse keeps its type private."""

Runner = Callable[[argparse.Namespace], int]
_SECONDS: Mapping[str, int] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")


def add_command(
    commands: Commands, name: str, summary: str, run: Runner | None = None, *, description: str = "", examples: str = ""
) -> argparse.ArgumentParser:
    """Add a command whose help shows its summary, an explanation and examples as written here."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".strip(),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """Add a command that only has subcommands."""
    parser = add_command(commands, name, summary)
    return parser.add_subparsers(dest=f"{name}_command", metavar="COMMAND", required=True)


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add --host and --port."""
    parser.add_argument("--host", help="address to listen on (OBSERVATORY_HOST, default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (OBSERVATORY_PORT, default 8080)")


def duration(text: str) -> int:
    """Parse ``90``, ``15m``, ``12h`` or ``7d`` into seconds."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 900, 15m, 12h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def count(text: str) -> int:
    """Parse a whole number from 0 up."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def overridden(environ: Mapping[str, str], options: argparse.Namespace, names: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` with given options replacing their settings; ``names`` maps option to setting."""
    given = {setting: getattr(options, option) for option, setting in names.items()}
    return {**environ, **{setting: str(value) for setting, value in given.items() if value is not None}}
