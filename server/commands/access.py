"""``project``, ``key`` and ``client``: projects and the credentials that open them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from server.commands.parsing import Commands, add_command, add_group, duration
from server.terminal.output import CommandFailed, say

if TYPE_CHECKING:
    import asyncpg

    from server.settings import Settings

ROLES = ("admin", "developer", "viewer", "billing")
KEY_KINDS = ("ingest", "dashboard", "service")


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_project(add_group(commands, "project", "create and list projects, the tenants of the installation"))
    _add_key(add_group(commands, "key", "create, list and revoke API keys"))
    _add_client(add_group(commands, "client", "register, list and disable OAuth clients"))


def _add_project(commands: Commands) -> None:
    create = add_command(
        commands,
        "create",
        "create a project",
        create_project,
        description="Fails if the id was ever used: data of a deleted project must not reappear in a new project.",
        examples='  llm-observatory project create shop --name "Web shop"\n',
    )
    create.add_argument("project_id", metavar="ID", help="lower-case letters, digits, - and _; at most 63")
    create.add_argument("--name", help="name for people (default: the id)")
    add_command(
        commands,
        "list",
        "list the projects, one per line: id, name",
        list_projects,
        examples="  llm-observatory project list\n",
    )


def _add_key(commands: Commands) -> None:
    create = add_command(
        commands,
        "create",
        "create an API key and print it",
        create_key,
        description=(
            "Prints only the key, which is not stored anywhere. An ingest key can only send traces, a dashboard key\n"
            "only read; a service key can do what its role can."
        ),
        examples=(
            "  llm-observatory key create --kind ingest --project shop --label 'checkout service'\n"
            "  llm-observatory key create --kind dashboard --project shop --label grafana --ttl 90d\n"
        ),
    )
    create.add_argument("--kind", required=True, choices=KEY_KINDS, help="its user: a sender, a reader, a program")
    create.add_argument("--label", required=True, help="a note about its use")
    create.add_argument("--role", choices=ROLES, help="default: developer, or viewer for a dashboard key")
    add_grant(create)
    create.add_argument("--ttl", type=duration, help="lifetime: 12h, 30d (default and longest: API_KEY_MAX_DAYS)")
    create.add_argument("--rate-limit", type=int, metavar="N", help="requests per minute, instead of the role's limit")
    add_command(
        commands,
        "list",
        "list the keys, one per line: id, kind, role, projects, state, expiry, last use, label",
        list_keys,
        examples="  llm-observatory key list\n",
    )
    revoke = add_command(
        commands,
        "revoke",
        "revoke a key",
        revoke_key,
        description="Every server process refuses it within seconds.",
        examples="  llm-observatory key revoke k7d2mzq4x5ab\n",
    )
    revoke.add_argument("key_id", metavar="ID", help="the id that `key list` shows")


def _add_client(commands: Commands) -> None:
    create = add_command(
        commands,
        "create",
        "register a client for /oauth/token",
        create_client,
        description="Prints client_id and client_secret; the secret is not stored anywhere.",
        examples="  llm-observatory client create --name 'nightly report' --role viewer --project shop\n",
    )
    create.add_argument("--name", required=True, help="name for people")
    create.add_argument("--role", required=True, choices=ROLES, help="its permissions: docs/reference/access.md")
    add_grant(create)
    create.add_argument("--client-id", metavar="ID", help="an id of your choice (default: a random one)")
    add_command(
        commands,
        "list",
        "list the clients, one per line: id, role, projects, state, name",
        list_clients,
        examples="  llm-observatory client list\n",
    )
    disable = add_command(
        commands,
        "disable",
        "disable a client and its tokens",
        disable_client,
        examples="  llm-observatory client disable client-abc\n",
    )
    disable.add_argument("client_id", metavar="ID", help="the id, as `client list` shows it")
    enable = add_command(
        commands,
        "enable",
        "enable a disabled client: its keys and unexpired tokens are accepted again",
        enable_client,
        examples="  llm-observatory client enable client-abc\n",
    )
    enable.add_argument("client_id", metavar="ID", help="the id, as `client list` shows it")


def add_grant(parser: argparse.ArgumentParser) -> None:
    """Add the options for the projects and scopes of a credential."""
    parser.add_argument(
        "--project",
        required=True,
        action="append",
        metavar="ID",
        help="a project that it opens; repeat it, or use '*' for all",
    )
    parser.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="limit it to this scope; repeat it for several (default: the role's)",
    )


def create_project(options: argparse.Namespace) -> int:
    """Create a project."""
    from server.access import administration
    from server.commands.administration import change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> bool:
        row = await administration.create_project(connection, options.project_id, options.name or options.project_id)
        if row is not None:
            await note(connection, "project.create", "project", options.project_id, [options.project_id])
        return row is not None

    if not change(os.environ, work):
        raise CommandFailed(f"the project id {options.project_id} is or was in use")
    say(f"created project {options.project_id}")
    return 0


def list_projects(options: argparse.Namespace) -> int:
    """List projects."""
    from server.access import administration
    from server.commands.administration import change

    rows = change(os.environ, lambda connection, _: administration.list_projects(connection))
    _print_rows((row["project_id"], row["name"]) for row in rows)
    return 0


async def say_missing(connection: asyncpg.Connection, projects: Sequence[str]) -> None:
    """Say which of ``projects`` there are not: a credential may be made ahead, and a name may be misspelt."""
    from server.access import administration
    from server.access.principal import EVERY_PROJECT

    live = {row["project_id"] for row in await administration.list_projects(connection)}
    for project in sorted({*projects} - {*live, EVERY_PROJECT}):
        say(f"there is no project {project}: until `llm-observatory project create {project}`, it opens nothing")


def create_key(options: argparse.Namespace) -> int:
    """Create a key and print it."""
    from server.access import administration
    from server.access.principal import Role
    from server.commands.administration import ACTOR, change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> str:
        latest = administration.latest_expiry(settings.api_key_max_days)
        expiry = datetime.now(UTC) + timedelta(seconds=options.ttl) if options.ttl else latest
        if expiry > latest:
            raise ValueError(f"a key is valid for at most {settings.api_key_max_days} days (API_KEY_MAX_DAYS)")
        new = administration.NewKey(
            label=options.label,
            kind=options.kind,
            projects=options.project,
            expires_at=expiry,
            role=Role(options.role) if options.role else None,
            scopes=options.scope,
            rate_limit_per_minute=options.rate_limit,
        )
        await say_missing(connection, new.projects)
        text, row = await administration.create_key(connection, new, created_by=ACTOR)
        await note(connection, "api_key.create", "api_key", row["key_id"], row["projects"])
        return text

    sys.stdout.write(f"{change(os.environ, work)}\n")
    return 0


def list_keys(options: argparse.Namespace) -> int:
    """List keys."""
    from server.access import administration
    from server.commands.administration import change

    rows = change(os.environ, lambda connection, _: administration.list_keys(connection))
    _print_rows(
        (
            row["key_id"],
            row["kind"],
            row["role"],
            ",".join(row["projects"]),
            _key_state(row),
            f"{row['expires_at']:%Y-%m-%d}",
            f"{row['last_used_at']:%Y-%m-%dT%H:%MZ}" if row["last_used_at"] else "never",
            row["label"],
        )
        for row in rows
    )
    return 0


def _key_state(row: Mapping[str, Any]) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if row["expires_at"] <= datetime.now(UTC) else "active"


def revoke_key(options: argparse.Namespace) -> int:
    """Revoke a key."""
    from server.access import administration
    from server.commands.administration import ACTOR, change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> bool:
        row = await administration.revoke_key(connection, options.key_id, revoked_by=ACTOR)
        if row is not None:
            await note(connection, "api_key.revoke", "api_key", options.key_id, row["projects"])
        return row is not None

    if not change(os.environ, work):
        raise CommandFailed(f"there is no key {options.key_id}")
    return 0


def create_client(options: argparse.Namespace) -> int:
    """Register a client and print its credentials."""
    from server.access import administration
    from server.access.principal import Role
    from server.commands.administration import ACTOR, change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> tuple[str | None, dict[str, Any]]:
        new = administration.NewClient(
            name=options.name,
            role=Role(options.role),
            projects=options.project,
            scopes=options.scope,
            client_id=options.client_id,
        )
        await say_missing(connection, new.projects)
        secret, row = await administration.create_client(connection, new, created_by=ACTOR)
        await note(connection, "client.create", "client", row["client_id"], row["projects"])
        return secret, row

    secret, row = change(os.environ, work)
    sys.stdout.write(f"client_id={row['client_id']}\nclient_secret={secret}\n")
    return 0


def list_clients(options: argparse.Namespace) -> int:
    """List clients."""
    from server.access import administration
    from server.commands.administration import change

    rows = change(os.environ, lambda connection, _: administration.list_clients(connection))
    _print_rows(
        (
            row["client_id"],
            row["role"],
            ",".join(row["projects"]),
            "active" if row["disabled_at"] is None else "disabled",
            row["client_name"],
        )
        for row in rows
    )
    return 0


def disable_client(options: argparse.Namespace) -> int:
    """Disable a client."""
    from server.access import administration
    from server.commands.administration import ACTOR, change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> bool:
        row = await administration.disable_client(connection, options.client_id, disabled_by=ACTOR)
        if row is not None:
            await note(connection, "client.disable", "client", options.client_id, row["projects"])
        return row is not None

    if not change(os.environ, work):
        raise CommandFailed(f"there is no client {options.client_id}")
    return 0


def enable_client(options: argparse.Namespace) -> int:
    """Enable a disabled client."""
    from server.access import administration
    from server.commands.administration import change, note

    async def work(connection: asyncpg.Connection, settings: Settings) -> bool:
        row = await administration.enable_client(connection, options.client_id)
        if row is not None:
            await note(connection, "client.enable", "client", options.client_id, row["projects"])
        return row is not None

    if not change(os.environ, work):
        raise CommandFailed(f"there is no client {options.client_id}")
    return 0


def _print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
