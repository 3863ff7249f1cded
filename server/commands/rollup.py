"""``rollup``: rebuilding of aggregates."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from server.commands.parsing import Commands, add_command, add_group
from server.terminal.output import CommandFailed

if TYPE_CHECKING:
    from server.settings import Settings
    from server.storage.database import Database

REBUILD_DAYS = 90


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    rollups = add_group(commands, "rollup", "maintain the aggregates that dashboards read")
    rebuild = add_command(
        rollups,
        "rebuild",
        "rebuild aggregates from the stored spans",
        rebuild_rollups,
        description=(
            "For use after a restore or a bulk load past the server, or when in doubt. Rebuilds one day at a time\n"
            "while the server runs; answers stay exact meanwhile. Days whose spans retention has dropped stay as\n"
            "they are."
        ),
        examples=(
            "  llm-observatory rollup rebuild\n"
            "  llm-observatory rollup rebuild --project shop --from 2026-05-01 --to 2026-05-31\n"
        ),
    )
    rebuild.add_argument("--project", action="append", metavar="ID", help="only this project; repeat it (default: all)")
    rebuild.add_argument(
        "--from", dest="first", type=day, metavar="DAY", help=f"first day in UTC (default: {REBUILD_DAYS} days ago)"
    )
    rebuild.add_argument("--to", dest="last", type=day, metavar="DAY", help="last day in UTC (default: today)")


def day(text: str) -> date:
    """Parse a calendar day such as 2026-05-01."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-05-01") from None


def rebuild_rollups(options: argparse.Namespace) -> int:
    """Rebuild, and report each day."""
    from server.access import administration
    from server.commands.administration import administrate
    from server.rollups import rebuild

    today = datetime.now(UTC).date()
    first, last = options.first or today - timedelta(days=REBUILD_DAYS), options.last or today
    if last < first:
        raise CommandFailed("--to is before --from")

    async def work(database: Database, settings: Settings) -> int:
        async with database.plain() as connection:
            known = [row["project_id"] for row in await administration.list_projects(connection)]
        unknown = set(options.project or ()) - set(known)
        if unknown:
            raise ValueError(f"there is no project {min(unknown)}")
        return await rebuild.rebuild_rollups(
            database,
            options.project or known,
            datetime.combine(first, datetime.min.time(), UTC),
            datetime.combine(last, datetime.min.time(), UTC) + timedelta(days=1),
            progress=lambda project, moment: print(f"{project}\t{moment:%Y-%m-%d}", flush=True),
        )

    administrate(os.environ, work, as_worker=True)
    return 0
