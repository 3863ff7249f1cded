"""Options of the commands that talk to a running server: its address, a project, and a credential for both."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from server.terminal.output import CommandFailed

if TYPE_CHECKING:
    from server.commands.api_client import Server
    from server.settings import Settings

_ADDRESS = {"OBSERVATORY_HOST", "OBSERVATORY_PORT"}
TOKEN_SECONDS = 86_400
_CREDENTIAL = re.compile(r"[!-~]+")


def add_server_options(parser: argparse.ArgumentParser, *, project: str) -> None:
    """Add ``--project``, with ``project`` as its help, ``--url`` and ``--token-file``."""
    parser.add_argument("--project", required=True, metavar="ID", help=project)
    parser.add_argument("--url", help="the server (default: OBSERVATORY_PUBLIC_URL, or the one that runs here)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with an access token or API key")


def server_of(options: argparse.Namespace) -> Server:
    """Return the server that ``options`` name. Without a token file, its credential is a developer's token created
    here.

    Raises CommandFailed for an address or a file of a wrong form, SettingsError if there is no secret to sign the token
    with, EmbeddedError if the private services are just starting, and OSError for an unreadable file.
    """
    from server.commands.api_client import Server
    from server.commands.tokens import make_token
    from server.settings import load_settings

    if options.url and not options.url.startswith(("http://", "https://")):
        raise CommandFailed(f"--url begins with http:// or https://, unlike {options.url!r}")
    if options.token_file is not None:
        token = options.token_file.read_bytes().strip().decode("ascii", "replace")
        if not _CREDENTIAL.fullmatch(token):
            raise CommandFailed(
                f"{options.token_file} is not a file with one access token or API key, and nothing else"
            )
    else:
        token = make_token(role="developer", projects=[options.project], seconds=TOKEN_SECONDS)
    return Server(options.url or _server_url(load_settings()), token, options.project)


def _server_url(settings: Settings) -> str:
    """Return the address that the settings give, or that of the server beside the private services."""
    from server.embedded import EmbeddedServices

    if not (settings.public_url or settings.database_url or _ADDRESS & os.environ.keys()):
        running = EmbeddedServices(settings.data_dir).running_instance()
        if running is not None and running.server_url:
            return running.server_url
    return settings.base_url
