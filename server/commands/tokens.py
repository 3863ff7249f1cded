"""``token``: access tokens, and the keys that sign them."""

from __future__ import annotations

import argparse
import sys

from server.commands.access import ROLES, add_grant
from server.commands.parsing import Commands, add_command, add_group, duration
from server.terminal.output import CommandFailed

TOKEN_SECONDS = 3600


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_token(add_group(commands, "token", "create access tokens"))


def _add_token(commands: Commands) -> None:
    create = add_command(
        commands,
        "create",
        "print a new access token",
        create_token,
        description=(
            "Prints only the token, a JWT signed with JWT_SECRET (or the secret of the private services). It needs no\n"
            "database, so it works before the server runs; a token for a project that does not exist opens nothing."
        ),
        examples=(
            "  llm-observatory token create --role developer --project demo\n"
            "  llm-observatory token create --role admin --project '*' --ttl 15m\n"
            "  llm-observatory token create --role viewer --project shop --project blog --scope metrics:read\n"
        ),
    )
    create.add_argument("--role", required=True, choices=ROLES, help="what it may do: docs/reference/access.md")
    add_grant(create)
    create.add_argument("--ttl", type=duration, default=TOKEN_SECONDS, help="lifetime: 900, 15m, 12h (default 1h)")
    create.add_argument("--subject", default="cli", help="name of its holder, as logs show it (default cli)")
    rotate = add_command(
        commands,
        "rotate-key",
        "put a fresh signing key first in JWT_KEYS_FILE",
        rotate_key,
        description=(
            "Makes the file if there is none, for the JWT_ALGORITHM in force. Running servers take the key up within\n"
            "seconds; keys that are kept still verify, one taken out ends its tokens. Prints the id of the new key."
        ),
        examples="  JWT_ALGORITHM=ES256 JWT_KEYS_FILE=keys.json llm-observatory token rotate-key\n",
    )
    rotate.add_argument("--keep", type=int, default=1, metavar="N", help="older keys to keep (default 1)")


def create_token(options: argparse.Namespace) -> int:
    """Print a token."""
    token = make_token(
        role=options.role,
        projects=options.project,
        scopes=options.scope,
        seconds=options.ttl,
        subject=options.subject,
    )
    sys.stdout.write(f"{token}\n")
    return 0


def make_token(
    *, role: str, projects: list[str], seconds: int, scopes: list[str] | None = None, subject: str = "cli"
) -> str:
    """Return an access token, signed with the secret of the settings or of the private services.

    :raises SettingsError: there is no secret.
    :raises CommandFailed: nobody may have such a grant.
    """
    from dataclasses import replace

    from server.access.access_token import issue_token
    from server.access.principal import Role
    from server.embedded import EmbeddedServices
    from server.settings import SettingsError, load_settings

    settings = load_settings()
    if not settings.jwt_secret:
        if settings.database_url:
            raise SettingsError("JWT_SECRET is not set: set it to the secret of the server that the token is for")
        settings = replace(settings, jwt_secret=EmbeddedServices(settings.data_dir).jwt_secret())
    try:
        return issue_token(settings, role=Role(role), projects=projects, scopes=scopes, ttl=seconds, subject=subject)
    except ValueError as refusal:
        raise CommandFailed(str(refusal)) from refusal


def rotate_key(options: argparse.Namespace) -> int:
    """Rotate the signing key."""
    from server.access.signing_keys import rotate_key_file
    from server.settings import load_settings

    settings = load_settings()
    if settings.jwt_keys_file is None or settings.jwt_algorithm == "HS256":
        raise CommandFailed("JWT_KEYS_FILE and a JWT_ALGORITHM other than HS256 must be set")
    if options.keep < 0:
        raise CommandFailed("--keep must be 0 or more")
    sys.stdout.write(f"{rotate_key_file(settings.jwt_keys_file, settings.jwt_algorithm, keep=options.keep)}\n")
    return 0
