"""The console script ``llm-observatory``.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from server import __version__
from server.commands import access, demo, grafana, importing, ingest, rollup, serve, taking_out, tokens
from server.terminal.output import CommandFailed, say

COMMAND_MODULES = (demo, serve, grafana, access, tokens, ingest, importing, taking_out, rollup)
INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; docs/reference/cli.md is compared with it."""
    parser = argparse.ArgumentParser(
        prog="llm-observatory",
        description="Stores traces of LLM applications and answers questions about them over REST and in Grafana.",
        epilog="Settings come from the environment: see `llm-observatory config` and docs/reference/configuration.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llm-observatory {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMAND_MODULES:
        module.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) is gone, which is fine. This keeps the exit from flushing into it.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 0
    except Exception as failure:
        if not explains_itself(failure):
            raise
        say(sentence_of(failure))
        return 1
    return code


def sentence_of(failure: Exception) -> str:
    """Return the message of an exception; that of a file without the number of the error."""
    if isinstance(failure, OSError) and failure.strerror and failure.filename is not None:
        target = "" if failure.filename2 is None else f" -> {failure.filename2}"
        return f"{failure.filename}{target}: {failure.strerror}"
    return str(failure)


def explains_itself(failure: Exception) -> bool:
    """Return whether an exception's message is meant for the person at the terminal; others are our bugs."""
    import asyncpg

    from server.embedded import EmbeddedError
    from server.errors import ApiError
    from server.process.listener import ListenError
    from server.schema.migrate import MigrationError
    from server.settings import SettingsError

    return isinstance(
        failure,
        CommandFailed
        | EmbeddedError
        | SettingsError
        | ListenError
        | MigrationError
        | ApiError
        | asyncpg.PostgresError
        | OSError,
    )


if __name__ == "__main__":
    sys.exit(main())
