"""The whole demo: services, server, project, two months of traces, three budgets, then live traces."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from server.access import administration
from server.access.access_token import issue_token
from server.access.api_key import parse_api_key
from server.access.principal import Role
from server.demo.budgets import set_budgets
from server.demo.live import trickle
from server.demo.schedule import Schedule
from server.demo.sender import UNSETTLED_DAYS, DemoError, Sender, Stopped, fill, missing_days
from server.embedded.data_dir import write_private
from server.embedded.stores import Stores, server_environ
from server.process.companions import companions_of
from server.process.listener import local_url, open_listener
from server.process.supervisor import Supervisor
from server.schema.migrate import migrate
from server.settings import Settings
from server.telemetry import logs
from server.terminal.output import say
from server.terminal.progress import Progress

logger = logging.getLogger("observatory.demo")

PROJECT = "demo"
SPANS_A_VISIT = 6.3
SHORT_TOKEN_SECONDS = 600
GRAFANA_KEY_FILE = "demo_grafana_key"


@dataclass(frozen=True)
class DemoOptions:
    """Options of the command line."""

    days: int
    traces: int
    seed: int
    live: bool


class DemoSession:
    """Runs the demo until it is told to stop."""

    def __init__(self, environ: Mapping[str, str], options: DemoOptions) -> None:
        self._options = options
        # Calm output for a person; the environment overrides it.
        self._stores = Stores({"LOG_LEVEL": "WARNING", "LOG_FORMAT": "text", **environ}, announce=say)
        self._stopping = threading.Event()
        self._traffic: threading.Thread | None = None

    def run(self) -> int:
        """Run everything from start to end; return the exit code. Main thread only."""
        with self._stores as settings:
            logs.configure(settings.log_level, settings.log_format)
            listener = open_listener(settings.host, settings.port)
            asyncio.run(migrate(settings.owner_url, distribution=settings.database_distribution))
            grafana_key = self._prepare_project(settings)
            base_url = local_url(listener)
            self._stores.publish_server(base_url)
            port = listener.getsockname()[1]

            def start_traffic() -> None:
                say(f"serving on {base_url}")
                self._traffic = threading.Thread(
                    target=self._send_traffic, args=(settings, base_url, grafana_key), name="demo traffic"
                )
                self._traffic.start()

            shared = {
                # Invented numbers may be seen by anybody who reaches the demo, unless its owner says otherwise.
                "PUBLIC_ANALYTICS_PROJECTS": PROJECT,
                **server_environ(self._stores.environ, settings),
                "OBSERVATORY_PORT": str(port),
            }
            with companions_of(settings, shared) as (companions, environ):
                supervisor = Supervisor(
                    listener,
                    settings.workers,
                    environ,
                    stop_seconds=settings.drain_delay + settings.drain_timeout,
                    on_ready=start_traffic,
                    on_stop=self._stopping.set,
                    watch=self._stores.watch,
                    metrics_address=(settings.host, settings.admin_port) if settings.admin_port else None,
                    companions=companions,
                )
                try:
                    return supervisor.run()
                finally:
                    self._stopping.set()
                    if self._traffic is not None:
                        self._traffic.join()

    def _prepare_project(self, settings: Settings) -> str:
        """Create the project and a key for Grafana, unless an earlier run did; return the key.

        The key is kept beside the data, since the database only has its hash.
        """
        kept = Path(settings.data_dir).expanduser() / GRAFANA_KEY_FILE
        known = kept.read_text() if kept.exists() else ""
        text = asyncio.run(_make_project(settings, known))
        if known != text:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_private(kept, text)
        return text

    def _send_traffic(self, settings: Settings, base_url: str, grafana_key: str) -> None:
        """Fill the past, print commands to try, then go on with the present. Runs in a thread of its own."""
        options = self._options
        sender = Sender(base_url, lambda: _token(settings, SHORT_TOKEN_SECONDS), self._stopping)
        schedule = Schedule(datetime.now(UTC), options.days, options.traces, options.seed)
        try:
            days = missing_days(sender, schedule)
            visits = sum(map(schedule.expected_visits, days))
            label = f"filling {options.days} days" if len(days) > UNSETTLED_DAYS else "bringing the demo data up to now"
            progress = Progress(label, int(visits * SPANS_A_VISIT), "spans")
            fill(sender, schedule, days, progress.advance)
            progress.finish()
            set_budgets(sender, lambda: _token(settings, SHORT_TOKEN_SECONDS, Role.ADMIN))
            print(what_to_try(base_url, _token(settings, settings.token_max_lifetime), grafana_key), flush=True)
            if options.live:
                trickle(sender, schedule, self._stopping)
        except Stopped:
            pass
        except DemoError as failure:
            if not self._stopping.is_set():
                say(f"{failure}; the server goes on; start the demo again to send the rest")
        finally:
            sender.close()


def _token(settings: Settings, seconds: int, role: Role = Role.DEVELOPER) -> str:
    return issue_token(
        settings, role=role, projects=[PROJECT], ttl=min(seconds, settings.token_max_lifetime), subject="demo"
    )


async def _make_project(settings: Settings, known: str) -> str:
    """Make the project; return a usable key: the ``known`` one or a new one."""
    connection = await asyncpg.connect(settings.owner_url)
    try:
        await administration.create_project(connection, PROJECT, "Demo: an invented web shop")
        parsed = parse_api_key(known)
        row = None if parsed is None else await administration.read_key(connection, parsed.key_id)
        if row is not None and row["revoked_at"] is None and row["expires_at"] > datetime.now(UTC):
            return known
        new = administration.NewKey(
            label="Grafana (demo)",
            kind="dashboard",
            projects=[PROJECT],
            expires_at=datetime.now(UTC) + timedelta(days=settings.api_key_max_days),
        )
        text, _ = await administration.create_key(connection, new, created_by="demo")
        return text
    finally:
        await connection.close()


def what_to_try(base_url: str, token: str, grafana_key: str) -> str:
    """Return the final text: ready commands and addresses."""
    return f"""
Ready. Things to try:

  Ask for the newest traces (the token is for the project {PROJECT}, for a day):
    TOKEN={token}
    curl -H "Authorization: Bearer $TOKEN" "{base_url}/api/v1/traces?limit=5"

  Another token:
    TOKEN=$({Path(sys.argv[0])} token create --role developer --project {PROJECT})

  Only the failed calls of a model:
    curl -H "Authorization: Bearer $TOKEN" "{base_url}/api/v1/traces?status=error&model=gpt-4.1-mini&limit=5"

  All that can be asked:  {base_url}/docs

  In Grafana, add a data source of type "JSON" (simpod-json-datasource):
    URL            {base_url}/grafana
    Header         Authorization = Bearer {grafana_key}

  Send traces of your own:
    export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT={base_url}/v1/traces
    export OTEL_EXPORTER_OTLP_TRACES_HEADERS="Authorization=Bearer%20$TOKEN"

  Ctrl-C stops everything; the data stay in {os.environ.get("OBSERVATORY_DATA_DIR", ".observatory")} for the next time.
"""
