"""A clock that jumps: by an hour, a day, forth and back, while a server serves.

The server's own processes see the wrong time (libfaketime), PostgreSQL and Redis the right one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import httpx

from server.embedded import EmbeddedServices
from tests.bench.server_process import serve_environment
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.program import Program, run

JUMPS: Final = ("+0", "+3600", "+0", "-3600", "+0", "+86400", "+0", "-86400", "+0")
SECONDS: Final = 4.0
"""At each time; some of the server's own work goes by its clock every second or two."""
PATHS: Final = (
    "/live", "/ready", "/api/v1/traces?from=now-3d&limit=5", "/api/v1/facets/model?from=now-1d",
    "/api/v1/metrics?metric=calls&from=now-3d",
)  # fmt: skip
LIBRARIES: Final = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")


def faketime() -> Path | None:
    """Return the path of the library; None if it is not installed."""
    return next((file for folder in LIBRARIES if (file := Path(folder) / "libfaketimeMT.so.1").exists()), None)


def clock_jumps(folder: Path) -> list[str]:
    """Let the clock jump, and ask, write and look at ``/live`` after each jump, with a key that does not end."""
    library = faketime()
    if library is None:
        print("    not run: it takes libfaketime (the package faketime of Debian and Ubuntu)")
        return []
    clock = folder / "clock"
    clock.write_text("+0\n")
    with EmbeddedServices(folder / "clock-data") as urls:
        settings = serve_environment(urls)
        run("migrate", settings=settings).check_returncode()
        run("project", "create", "clock", settings=settings).check_returncode()
        made = run("key", "create", "--kind", "service", "--role", "developer", "--project", "clock", "--label", "c",
                   settings=settings)  # fmt: skip
        made.check_returncode()
        faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                 "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}  # fmt: skip
        with Program(folder, ["serve", "--workers", "1"], {**settings, **faked}) as program:
            program.wait_until_serving()
            headers = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
            with httpx.Client(base_url=program.base_url, headers=headers, timeout=20) as client:
                return _jump(client, program, clock)


def _jump(client: httpx.Client, program: Program, clock: Path) -> list[str]:
    faults, stored = [], 0
    pids = program.worker_pids()
    for jump in JUMPS:
        clock.write_text(f"{jump}\n")
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            began = time.monotonic()
            body = export_request(10).SerializeToString()
            sent = client.post("/v1/traces", content=body, headers={"Content-Type": PROTOBUF})
            # Spans later than the server's own time are refused one by one, and the answer says so.
            stored += 10 if sent.status_code == 200 and not sent.content else 0
            answers = {
                "/v1/traces": sent.status_code,
                **{path: client.get(path).status_code for path in PATHS},
            }
            faults += [f"{status} for {path} at {jump} s" for path, status in answers.items() if status != 200]
            if (took := time.monotonic() - began) > SECONDS:
                faults.append(f"{took:.1f} s for six requests at {jump} s")
            time.sleep(0.2)
    answer = client.get("/api/v1/traces?from=now-1h&total=exact&limit=1").json()
    total = answer["pagination"]["total"]
    found = total["value"] if isinstance(total, dict) else total
    print(f"    {stored} spans were acknowledged at nine times")
    if found != stored:
        faults.append(f"{stored} spans were acknowledged, {found} are stored")
    ends = time.monotonic() + 15  # sums are folded every second
    while (calls := _calls(client)) != stored:
        if time.monotonic() > ends:
            faults.append(f"{stored} calls are stored, {calls} are in the sums")
            break
        time.sleep(0.5)
    if program.worker_pids() != pids:
        faults.append("the server process was replaced")
    return faults


def _calls(client: httpx.Client) -> int:
    rows = client.get("/api/v1/metrics?metric=calls&from=now-2h").json()["data"]
    return round(sum(row["value"] or 0 for row in rows))
