"""``tail`` and ``export``: traces taken out of a running server, to the terminal or into a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from server.commands.parsing import Commands, add_command

if TYPE_CHECKING:
    from server.commands.api_client import Server

TOKEN_SECONDS = 86_400


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    tail = add_command(
        commands,
        "tail",
        "show spans as they are stored",
        run_tail,
        description=(
            "A line per span, coloured on a terminal. FILTERs are query parameters of lists, such as model=gpt-4o,\n"
            "status=error or min_duration_ms=1000. A lost connection is opened again where it broke off. Without\n"
            "--token-file, a token is made with JWT_SECRET or the secret of the private services."
        ),
        examples=(
            "  llm-observatory tail --project shop\n"
            "  llm-observatory tail --project shop status=error --json | jq .error_message\n"
        ),
    )
    export = add_command(
        commands,
        "export",
        "write spans into a file",
        run_export,
        description=(
            "Every span that matches the FILTERs, which are query parameters of lists, such as from=now-7d or\n"
            "model=gpt-4o. The file has its name only once it is whole; an NDJSON or CSV export that breaks off goes\n"
            "on where it was. Without --token-file, a token is made with JWT_SECRET or the secret of the private\n"
            "services."
        ),
        examples=(
            "  llm-observatory export --project shop --output week.parquet --format parquet from=now-7d\n"
            "  llm-observatory export --project shop --output errors.ndjson.gz --compression gzip status=error\n"
        ),
    )
    for parser in (tail, export):
        parser.add_argument("filters", nargs="*", metavar="FILTER", help="NAME=VALUE, a query parameter of lists")
        parser.add_argument("--project", required=True, metavar="ID", help="the project")
        parser.add_argument("--url", help="the server (default: OBSERVATORY_PUBLIC_URL, or host and port)")
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with an access token or API key")
    tail.add_argument("--json", action="store_true", help="print the events' rows as JSON, one a line")
    tail.add_argument("--count", type=int, metavar="N", help="end after N spans")
    export.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file to write")
    export.add_argument("--format", default="ndjson", help="ndjson (default), csv, parquet or otlp")
    export.add_argument("--compression", default="none", help="none (default), gzip or zstd")


def run_tail(options: argparse.Namespace) -> int:
    """Show spans until interrupted, or until there were enough."""
    from server.commands.live_client import follow

    follow(_server(options), options.filters, as_json=options.json, most=options.count)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write the file."""
    from server.commands.export_client import write_export

    write_export(
        _server(options), options.filters, options.output, kind=options.format, compression=options.compression
    )
    return 0


def _server(options: argparse.Namespace) -> Server:
    from server.commands.api_client import Server
    from server.commands.tokens import make_token
    from server.settings import load_settings

    if options.token_file is not None:
        token = options.token_file.read_text().strip()
    else:
        token = make_token(role="developer", projects=[options.project], seconds=TOKEN_SECONDS)
    return Server(options.url or load_settings().base_url, token, options.project)
