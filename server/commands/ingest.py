"""``ingest``: traces from files."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from server.commands.parsing import Commands, add_command
from server.commands.server_options import add_server_options, server_of
from server.terminal.output import CommandFailed, say

if TYPE_CHECKING:
    from server.commands.file_ingest import FileProgress


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    ingest = add_command(
        commands,
        "ingest",
        "send OTLP files to a running server",
        run_ingest,
        description=(
            "Takes OTLP as JSON (one document, or one a line) and as protobuf (one message, or with lengths), each\n"
            "also with gzip or zstd: all that the Collector's file exporter writes. Sending a file twice stores\n"
            "nothing twice. Without --token-file, a token for the project is made with JWT_SECRET or the secret of\n"
            "the private services."
        ),
        examples=(
            "  llm-observatory ingest --project shop traces.jsonl\n"
            "  llm-observatory ingest --project shop --url https://llm.example.org --token-file key.txt *.binpb.gz\n"
        ),
    )
    ingest.add_argument("files", nargs="+", type=Path, metavar="FILE", help="OTLP in a form named above")
    add_server_options(ingest, project="the project they go to")


def run_ingest(options: argparse.Namespace) -> int:
    """Send the files; return 1 if a span was refused."""
    from server.commands.file_ingest import ingest_files
    from server.commands.otlp_files import FileIngestError
    from server.terminal.progress import Progress

    server = server_of(options)
    total = sum(file.stat().st_size for file in options.files)
    progress = Progress("sending", total, "bytes")
    done: dict[Path, int] = {}

    def show(state: FileProgress) -> None:
        progress.advance(state.done_bytes - done.get(state.file, 0))
        done[state.file] = state.done_bytes

    sending = ingest_files(
        options.files,
        base_url=server.base_url,
        token=server.token,
        project=server.project,
        on_progress=show,
    )
    try:
        totals = asyncio.run(sending)
    except FileIngestError as failure:
        raise CommandFailed(str(failure)) from failure
    progress.finish()
    for file in totals:
        sys.stdout.write(f"{file.file}\t{file.items}\t{file.rejected}\n")
        for reason in file.reasons:
            say(f"{file.file}: {reason}")
    return 1 if any(file.rejected for file in totals) else 0
