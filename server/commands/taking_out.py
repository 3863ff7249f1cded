"""``tail`` and ``export``: spans read from a running server, to the terminal or to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.commands.parsing import Commands, add_command, count
from server.commands.server_options import add_server_options, server_of


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
        "write spans to a file",
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
        add_server_options(parser, project="the project")
    tail.add_argument("--json", action="store_true", help="print the events' rows as JSON, one a line")
    tail.add_argument("--count", type=count, metavar="N", help="stop after N spans")
    export.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file to write")
    export.add_argument("--format", default="ndjson", help="ndjson (default), csv, parquet or otlp")
    export.add_argument("--compression", default="none", help="none (default), gzip or zstd")


def run_tail(options: argparse.Namespace) -> int:
    """Show spans until interrupted, or until the requested number was shown."""
    from server.commands.live_client import follow

    follow(server_of(options), options.filters, as_json=options.json, most=options.count)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write the file."""
    from server.commands.export_client import write_export

    write_export(
        server_of(options), options.filters, options.output, kind=options.format, compression=options.compression
    )
    return 0
