"""``serve``, ``migrate`` and ``config``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from server.commands.parsing import Commands, add_address, add_command, count, overridden
from server.terminal.output import say

if TYPE_CHECKING:
    from server.settings import Settings


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    serve = add_command(
        commands,
        "serve",
        "run the server",
        run_serve,
        description=(
            "Serves OTLP, REST and Grafana on one port. Without DATABASE_URL a private PostgreSQL and Valkey\n"
            "are started in OBSERVATORY_DATA_DIR and migrated. A server process that dies is replaced.\n"
            "SIGTERM or Ctrl-C: running requests finish (OBSERVATORY_DRAIN_TIMEOUT), then it exits with 0;\n"
            "a second one ends it at once."
        ),
        examples=(
            "  llm-observatory serve\n"
            "  llm-observatory serve --host 0.0.0.0 --port 8080 --workers 4\n"
            "  DATABASE_URL=postgresql://… REDIS_URL=redis://… JWT_SECRET=… llm-observatory serve --migrate\n"
        ),
    )
    add_address(serve)
    serve.add_argument("--workers", type=count, help="server processes (OBSERVATORY_WORKERS, default 1)")
    serve.add_argument("--migrate", action="store_true", help="bring the schema up to date first")
    migrate = add_command(
        commands,
        "migrate",
        "bring the database's schema up to date",
        run_migrate,
        description=(
            "Applies the migrations that the database has not seen, each in a transaction, under a lock: any number\n"
            "of these may run at once. Uses DATABASE_OWNER_URL (or DATABASE_URL), a role that may create tables."
        ),
        examples=(
            "  DATABASE_OWNER_URL=postgresql://owner@db/observatory llm-observatory migrate\n"
            "  llm-observatory migrate --plan\n"
        ),
    )
    migrate.add_argument("--plan", action="store_true", help="only print what would be locked, and for about how long")
    add_command(
        commands,
        "config",
        "print the effective settings, secrets masked",
        run_config,
        description="One line NAME=value for each setting, in the form of an environment file.",
        examples="  llm-observatory config\n  OBSERVATORY_PORT=9090 llm-observatory config | grep PORT\n",
    )


def run_serve(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from server.embedded.stores import Stores, server_environ
    from server.process.companions import companions_of
    from server.process.listener import local_url, open_listener
    from server.process.supervisor import Supervisor
    from server.telemetry import logs

    environ = overridden(
        os.environ, options, {"host": "OBSERVATORY_HOST", "port": "OBSERVATORY_PORT", "workers": "OBSERVATORY_WORKERS"}
    )
    stores = Stores(environ, announce=say)
    with stores as settings:
        logs.configure(settings.log_level, settings.log_format)
        # Before the schema is touched: a taken port ends the command here.
        listener = open_listener(settings.host, settings.port)
        if not stores.are_private:
            asyncio.run(_check_addresses(settings))
        if stores.are_private or options.migrate:
            apply_migrations(settings)
        port = listener.getsockname()[1]
        stores.publish_server(local_url(listener))
        shared = {**server_environ(stores.environ, settings), "OBSERVATORY_PORT": str(port)}
        with companions_of(settings, shared) as (companions, server_environment):
            return Supervisor(
                listener,
                settings.workers,
                server_environment,
                stop_seconds=settings.drain_delay + settings.drain_timeout,
                on_ready=lambda: say(f"serving on http://{settings.host}:{port}"),
                watch=stores.watch,
                metrics_address=(settings.host, settings.admin_port) if settings.admin_port else None,
                companions=companions,
            ).run()


async def _check_addresses(settings: Settings) -> None:
    from server.settings import SettingsError
    from server.storage.session_check import NoSessions, check_sessions

    background = "DATABASE_WORKER_URL" if settings.database_worker_url else "DATABASE_OWNER_URL or DATABASE_URL"
    addresses = [
        (settings.database_url, "observatory_api", "DATABASE_URL"),
        (settings.worker_url, "observatory_worker", background),
        *((url, "observatory_api", "DATABASE_READ_URLS") for url in settings.database_read_urls),
    ]
    try:
        await asyncio.gather(*(check_sessions(url, role, variable=variable) for url, role, variable in addresses))
    except NoSessions as error:
        raise SettingsError(str(error)) from error


def run_migrate(options: argparse.Namespace) -> int:
    """Migrate, and report the migrations that were applied.

    A database of the user's own needs an address and nothing else, since no request is answered.
    """
    from server.embedded.stores import Stores
    from server.settings import load_settings

    given = load_settings()
    with nullcontext(given) if given.owner_url else Stores(os.environ, announce=say, join=True) as settings:
        if options.plan:
            from server.schema.migration_plan import lines, plan_migrations

            sys.stdout.writelines(f"{line}\n" for line in lines(asyncio.run(plan_migrations(settings.owner_url))))
            return 0
        applied = apply_migrations(settings)
    sys.stdout.writelines(f"applied {name}\n" for name in applied)
    if not applied:
        sys.stdout.write("the schema is up to date\n")
    return 0


def apply_migrations(settings: Settings) -> list[str]:
    """Return the names of the migrations that were applied now."""
    from server.schema.migrate import migrate

    return asyncio.run(migrate(settings.owner_url, distribution=settings.database_distribution, warn=say))


def run_config(options: argparse.Namespace) -> int:
    """Print every setting."""
    from server.settings import load_settings
    from server.text.setting_values import masked

    sys.stdout.writelines(f"{name}={value}\n" for name, value in masked(load_settings()).items())
    return 0
