"""A disk that is full: PostgreSQL cannot write, and the server says so, stays up and goes on once there is space."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.program import Program, run

DISK: Final = "700m"
FULL_SECONDS: Final = 12.0
AGAIN_SECONDS: Final = 30.0


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a file system of its own at ``place``; yield False if this account may not mount one."""
    place.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    """Let ``file`` take all the space that is left."""
    with open(file, "ab", buffering=0) as sink:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    sink.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def full_disk(folder: Path) -> list[str]:
    """Fill the disk below a server with services of its own, write, read, and make space again."""
    with small_disk(folder / "disk") as is_mounted:
        if not is_mounted:
            print("    not run: it takes the right to mount a file system")
            return []
        settings = {"OBSERVATORY_DATA_DIR": str(folder / "disk" / "data"), "OBSERVATORY_PORT": "0"}
        with Program(folder, ["serve", "--workers", "1"], settings) as program:
            program.wait_until_serving()
            token = run("token", "create", "--role", "admin", "--project", "*", settings=settings).stdout.strip()
            with httpx.Client(
                base_url=program.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=30
            ) as client:
                return _write_and_read(client, program, folder / "disk" / "filler")


def _write_and_read(client: httpx.Client, program: Program, filler: Path) -> list[str]:
    client.post("/api/v1/projects", json={"project_id": "disk"})
    faults, statuses = [], []
    stored = 0

    def send() -> int:
        nonlocal stored
        body = export_request(50, attributes={"gen_ai.prompt": os.urandom(2000).hex()}).SerializeToString()
        headers = {"Content-Type": PROTOBUF, "X-Observatory-Project": "disk"}
        status = client.post("/v1/traces", content=body, headers=headers).status_code
        stored += 50 * (status == 200)
        return status

    if send() != 200:
        return ["no span was taken before"]
    ends = time.monotonic() + FULL_SECONDS
    while time.monotonic() < ends:
        fill(filler)  # again: what PostgreSQL lets go is taken, too
        statuses.append(send())
        for path in ("/live", "/api/v1/traces?from=now-1h"):
            status = client.get(path).status_code
            if status not in (200, 503) or (path == "/live" and status != 200):
                faults.append(f"{status} for {path} on the full disk")
        time.sleep(0.2)
    if wrong := set(statuses) - {200, 503}:
        faults.append(f"{wrong} for spans on the full disk")
    if 503 not in statuses:
        faults.append("the disk was never full")
    filler.unlink()
    ends = time.monotonic() + AGAIN_SECONDS
    while send() != 200:
        if time.monotonic() > ends:
            return [*faults, f"no span is taken {AGAIN_SECONDS:.0f} s after there is space: {program.output[-600:]}"]
        time.sleep(0.5)
    answer = client.get("/api/v1/traces?from=now-1h&total=exact&limit=1").json()
    print(f"    {statuses.count(503)} of {len(statuses)} batches were 503; {stored} spans were acknowledged")
    total = answer.get("pagination", {}).get("total")
    if (total["value"] if isinstance(total, dict) else total) != stored:
        faults.append(f"{stored} spans were acknowledged, {total} are stored")
    return faults
