"""``demo``: the server and everything it needs, with believable data."""

from __future__ import annotations

import argparse
import os

from server.commands.parsing import Commands, add_address, add_command, count, overridden

DAYS = 60
TRACES = 18_000
SEED = 7


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    demo = add_command(
        commands,
        "demo",
        "start everything, with two months of believable traces",
        run_demo,
        description=(
            "Starts the private services (unless DATABASE_URL is set) and the server, creates the project 'demo',\n"
            "sends it two months of traces of an invented web shop over OTLP, continues with live ones, and prints\n"
            "what to try. "
            "A second start finds the data and sends only what is missing. Ctrl-C stops everything."
        ),
        examples="  llm-observatory demo\n  llm-observatory demo --port 9090 --days 7 --traces 1000\n",
    )
    add_address(demo)
    demo.add_argument("--days", type=count, default=DAYS, help=f"days of history (default {DAYS})")
    demo.add_argument("--traces", type=count, default=TRACES, help=f"traces in them (default {TRACES})")
    demo.add_argument("--seed", type=count, default=SEED, help="seed of the traces; another number makes others")
    demo.add_argument(
        "--semantic", action="store_true", help="search by meaning, with the offline model (the extra 'semantic')"
    )
    demo.add_argument("--no-live", action="store_true", help="send no live traces after the history")


def run_demo(options: argparse.Namespace) -> int:
    """Run the demo until it is told to stop."""
    from server.demo.session import DemoOptions, DemoSession

    environ = overridden(os.environ, options, {"host": "OBSERVATORY_HOST", "port": "OBSERVATORY_PORT"})
    if options.semantic:
        environ = {**environ, "OBSERVATORY_SEMANTIC": "offline"}
    story = DemoOptions(days=max(options.days, 1), traces=options.traces, seed=options.seed, live=not options.no_live)
    return DemoSession(environ, story).run()
