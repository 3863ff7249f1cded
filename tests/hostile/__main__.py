"""Let a hostile tenant loose on a server of its own: ``make hostile`` (ARGS="--seconds 10 promql streams").

Everything runs on 127.0.0.1, on services that are started for it and removed after it, for a bounded time. In each wave
the tenant does one thing again and again (:data:`tests.hostile.waves.WAVES`), while its neighbour asks, sends and looks
at ``/live``. It fails where

* an answer from 500 on is other than the documented 503 and 504,
* a request of the neighbour fails, waits for half a minute, or shows what is not its own,
* the server process is replaced, or the server does not get quiet after a wave: connections, descriptors,
* memory grows: all waves run twice, and after the second time it may hold little more than after the first.

Then come scenes with servers of their own: a disk that is full, and a clock that jumps.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.hostile.clock import clock_jumps
from tests.hostile.disk import full_disk
from tests.hostile.scene import attack_in_waves
from tests.hostile.waves import WAVES

SCENES: dict[str, Callable[[Path], list[str]]] = {"disk": full_disk, "clock": clock_jumps}


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="of each wave")
    parser.add_argument("--growth", type=float, default=60, help="MB that memory may grow the second time")
    parser.add_argument("--spans", type=int, default=10_000, help="of the hostile tenant, before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true", help="no second time: for a look at single waves")
    parser.add_argument("only", nargs="*", help=f"some of {', '.join([*WAVES, *SCENES])} (default: all)")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(WAVES) - set(SCENES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def main(arguments: argparse.Namespace) -> int:
    """Run what was asked for; 1 where something did not hold."""
    faults = []
    with tempfile.TemporaryDirectory(prefix="observatory-hostile-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        waves = [wave for wave in WAVES if not arguments.only or wave in arguments.only]
        if waves:
            faults += asyncio.run(attack_in_waves(folder, waves, arguments))
        for scene, run in SCENES.items():
            if not arguments.only or scene in arguments.only:
                print(f"  {scene}", flush=True)
                faults += [f"{scene}: {fault}" for fault in run(folder)]
    for fault in faults:
        print(f"FAILED {fault}")
    print("all held" if not faults else f"{len(faults)} did not hold")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
