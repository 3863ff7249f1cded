"""Options of the commands that talk to a running server: its address, a project, and a credential for both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.commands.api_client import Server

TOKEN_SECONDS = 86_400


def add_server_options(parser: argparse.ArgumentParser, *, project: str) -> None:
    """Add ``--project``, with ``project`` as its help, ``--url`` and ``--token-file``."""
    parser.add_argument("--project", required=True, metavar="ID", help=project)
    parser.add_argument("--url", help="the server (default: OBSERVATORY_PUBLIC_URL, or host and port)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with an access token or API key")


def server_of(options: argparse.Namespace) -> Server:
    """Return the server that ``options`` name. Without a token file, its credential is a developer's token created
    here.

    Raises SettingsError if there is no secret to sign it with, and OSError for an unreadable file.
    """
    from server.commands.api_client import Server
    from server.commands.tokens import make_token
    from server.settings import load_settings

    if options.token_file is not None:
        token = options.token_file.read_text().strip()
    else:
        token = make_token(role="developer", projects=[options.project], seconds=TOKEN_SECONDS)
    return Server(options.url or load_settings().base_url, token, options.project)
