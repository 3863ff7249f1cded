"""``project``, ``token``, ``key`` and ``client``: who may come in."""

from __future__ import annotations

import argparse
import os
import sys

from server.commands.parsing import Commands, add_command, add_group, duration
from server.commands.terminal import CommandFailed, say

ROLES = ("admin", "developer", "viewer", "billing")
TOKEN_TTL = 3600


def add(commands: Commands) -> None:
    """Adds the commands to the parser."""
    projects = add_group(commands, "project", "make and list projects, the tenants of the installation")
    create = add_command(
        projects,
        "create",
        "make a project",
        run_project_create,
        description="Fails when the id was ever used: data of a deleted project must not come back under a new one.",
        examples='  llm-observatory project create shop --name "Web shop"\n',
    )
    create.add_argument("project_id", metavar="ID", help="lower-case letters, digits, - and _; at most 63")
    create.add_argument("--name", help="name for people (default: the id)")
    add_command(
        projects,
        "list",
        "list the projects, one a line: id, name",
        run_project_list,
        examples="  llm-observatory project list\n",
    )
    tokens = add_group(commands, "token", "make access tokens")
    token = add_command(
        tokens,
        "create",
        "print a new access token",
        run_token_create,
        description=(
            "Prints only the token, a JWT signed with JWT_SECRET (or the secret of the private services). It asks no\n"
            "database, so it works before the server runs; a token for a project that does not exist opens nothing."
        ),
        examples=(
            "  llm-observatory token create --role developer --project demo\n"
            "  llm-observatory token create --role admin --project '*' --ttl 15m\n"
            "  llm-observatory token create --role viewer --project shop --project blog --scope metrics:read\n"
        ),
    )
    _add_grant(token)
    token.add_argument("--ttl", type=duration, default=TOKEN_TTL, help="lifetime: 900, 15m, 12h (default 1h)")
    token.add_argument("--subject", default="cli", help="who it is for, as it appears in logs (default cli)")


def _add_grant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", required=True, choices=ROLES)
    parser.add_argument(
        "--project", required=True, action="append", metavar="ID", help="a project it opens; repeat it, or '*' for all"
    )
    parser.add_argument(
        "--scope", action="append", metavar="SCOPE", help="narrow it to this scope; repeat it (default: the role's)"
    )


def run_project_create(options: argparse.Namespace) -> int:
    """Makes a project."""
    from server.commands.administration import administrate, create_project

    made = administrate(os.environ, lambda database: create_project(database, options.project_id, options.name))
    if not made:
        raise CommandFailed(f"the project id {options.project_id} has been used already")
    say(f"project {options.project_id} is there")
    return 0


def run_project_list(options: argparse.Namespace) -> int:
    """Lists projects."""
    from server.commands.administration import administrate, list_projects

    for project_id, name in administrate(os.environ, list_projects):
        sys.stdout.write(f"{project_id}\t{name}\n")
    return 0


def run_token_create(options: argparse.Namespace) -> int:
    """Prints a token."""
    from dataclasses import replace

    from server.access.access_token import issue_token
    from server.access.principal import Role
    from server.embedded import EmbeddedServices
    from server.settings import SettingsError, load_settings

    settings = load_settings()
    if not settings.jwt_secret:
        if settings.database_url:
            raise SettingsError("JWT_SECRET is not set: it must be the one of the server that the token is for")
        settings = replace(settings, jwt_secret=EmbeddedServices(settings.data_dir).jwt_secret())
    try:
        token = issue_token(
            settings,
            role=Role(options.role),
            projects=options.project,
            scopes=options.scope,
            ttl=options.ttl,
            subject=options.subject,
        )
    except ValueError as refusal:
        raise CommandFailed(str(refusal)) from refusal
    sys.stdout.write(f"{token}\n")
    return 0
