"""``import``: traces and scores from the exports of other tools."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from server.commands.parsing import Commands, add_command
from server.imports.import_format import TOOLS
from server.terminal.output import CommandFailed, say

TOKEN_SECONDS = 86_400
MOST_REASONS = 20


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "import",
        "bring traces and scores of another tool into a running server",
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
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--from", required=True, dest="tool", choices=TOOLS, help="the tool that wrote the files")
    parser.add_argument("--project", required=True, metavar="ID", help="the project they go to")
    parser.add_argument("--service", metavar="NAME", help="their service (default: the one named, else TOOL-import)")
    parser.add_argument("--url", help="the server (default: OBSERVATORY_PUBLIC_URL, or host and port)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with an access token or API key")


def run_import(options: argparse.Namespace) -> int:
    """Send the files; return 1 if something was left out or refused."""
    from server.commands.file_import import import_files
    from server.commands.otlp_files import FileIngestError
    from server.commands.tokens import make_token
    from server.imports.rows import UnreadableFileError
    from server.settings import load_settings

    if options.token_file is not None:
        token = options.token_file.read_text().strip()
    else:
        token = make_token(role="developer", projects=[options.project], seconds=TOKEN_SECONDS)
    importing = import_files(
        options.tool,
        options.files,
        base_url=options.url or load_settings().base_url,
        token=token,
        project=options.project,
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
