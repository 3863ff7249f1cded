"""``import``: traces and scores from the exports of other tools."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from server.commands.parsing import Commands, add_command
from server.commands.server_options import add_server_options, server_of
from server.imports.import_format import TOOLS
from server.terminal.output import CommandFailed, say

MOST_REASONS = 20


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "import",
        "import traces and scores of another tool into a running server",
        run_import,
        description=(
            "Takes the files that the other tool exports: JSON, JSON lines, CSV or Parquet, also with gzip. Files\n"
            "that belong together (traces, observations, scores) go into one command. Ids, costs and times are kept,\n"
            "and importing a file twice stores nothing twice. A row that cannot be used is named and left out; the\n"
            "exit code is 1 then. Without --token-file, a token for the project is made with JWT_SECRET or the\n"
            "secret of the private services."
        ),
        examples=(
            "  llm-observatory import --from langfuse --project shop observations.jsonl scores.jsonl\n"
            "  llm-observatory import --from langsmith --project shop --service bot runs-*.parquet\n"
        ),
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="what the tool exported, all that belongs together"
    )
    parser.add_argument("--from", required=True, dest="tool", choices=TOOLS, help="the tool that wrote the files")
    add_server_options(parser, project="the project they go to")
    parser.add_argument("--service", metavar="NAME", help="their service (default: the one named, else TOOL-import)")


def run_import(options: argparse.Namespace) -> int:
    """Send the files; return 1 if a row was left out or refused."""
    from server.commands.file_import import import_files
    from server.commands.otlp_files import FileIngestError
    from server.imports.rows import UnreadableFileError

    server = server_of(options)
    importing = import_files(
        options.tool,
        options.files,
        base_url=server.base_url,
        token=server.token,
        project=server.project,
        service=options.service,
    )
    try:
        outcome = asyncio.run(importing)
    except (FileIngestError, UnreadableFileError) as failure:
        raise CommandFailed(str(failure)) from failure
    for reason in outcome.reasons[:MOST_REASONS]:
        say(reason)
    if len(outcome.reasons) > MOST_REASONS:
        say(f"… and {len(outcome.reasons) - MOST_REASONS} more")
    sys.stdout.write(
        f"spans\t{outcome.spans}\nscores\t{outcome.scores}\nleft out\t{outcome.skipped}\nrefused\t{outcome.rejected}\n"
    )
    return 1 if outcome.skipped or outcome.rejected else 0
