"""A slow export beside ingest and lists, and a killed server: ``make bench-export`` (ARGS="--seconds 180").

Spans are sent and lists are read at a steady pace, first alone, then beside an export whose client takes so many bytes
a second: memory of the server process, times of the lists, and the oldest transaction that PostgreSQL had. Then the
server is killed in the middle of an export; what came is continued on a new one, and compared with the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import signal
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import asyncpg
import httpx

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.analytics_cluster import MEASURED
from tests.bench.analytics_data import DAYS, PROJECT, load
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import SPANS, Payloads
from tests.bench.server_process import serve_environment
from tests.bench.soak import resident_megabytes
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program

EXPORT: Final = "/api/v1/export/traces"
SENT_A_SECOND: Final = 3
"""Batches of 100 spans."""
LISTS_A_SECOND: Final = 5
OLDEST = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'bench%'
"""


@dataclass(slots=True)
class Seen:
    """One phase."""

    megabytes: list[float] = field(default_factory=list)
    lists: list[float] = field(default_factory=list)
    refused: int = 0
    sent: int = 0
    oldest: float = 0.0

    def told(self) -> str:
        """Return the figures as one line."""
        lists = sorted(self.lists)
        return (
            f"memory {statistics.median(self.megabytes):.1f} MB (most {max(self.megabytes):.1f}); {len(lists)} lists "
            f"p50 {statistics.median(lists) * 1000:.0f} ms, p99 {lists[int(len(lists) * 0.99)] * 1000:.0f} ms; "
            f"{self.sent} spans sent; {self.refused} answers other than 200; oldest transaction {self.oldest:.2f} s"
        )


async def work(base_url: str, headers: dict[str, str], owner_url: str, worker: int, seconds: float) -> Seen:
    """Send and list for some time, watching."""
    seen, ends = Seen(), time.monotonic() + seconds
    payloads, chance = Payloads(random.randrange(10**6), words=60), random.Random(1)

    async def send() -> None:
        async with LoadConnection(base_url, headers | {"Content-Type": PROTOBUF}) as connection:
            while time.monotonic() < ends:
                due = time.monotonic() + 1 / SENT_A_SECOND
                is_taken = await connection.post("/v1/traces", payloads.batch()) == 200
                seen.sent, seen.refused = seen.sent + SPANS * is_taken, seen.refused + (not is_taken)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def read() -> None:
        async with LoadConnection(base_url, headers) as connection:
            while time.monotonic() < ends:
                begun = time.monotonic()
                moment = f"now-{chance.randrange(1, 28_800)}m"
                status, _ = await connection.get(f"/api/v1/traces?{urlencode({'from': 'now-30d', 'to': moment})}")
                seen.lists.append(time.monotonic() - begun)
                seen.refused += status != 200
                await asyncio.sleep(max(0.0, begun + 1 / LISTS_A_SECOND - time.monotonic()))

    async def watch() -> None:
        owner = await asyncpg.connect(owner_url, server_settings={"application_name": "bench"})
        while time.monotonic() < ends:
            seen.megabytes.append(resident_megabytes(worker))
            seen.oldest = max(seen.oldest, await owner.fetchval(OLDEST))
            await asyncio.sleep(0.5)
        await owner.close()

    await asyncio.gather(send(), read(), watch())
    return seen


@dataclass(slots=True)
class SlowClient:
    """Takes ``rate`` bytes a second from a socket with a small buffer."""

    rate: int
    received: int = 0
    begun: float = 0.0

    async def take(self, base_url: str, headers: dict[str, str], params: dict[str, str]) -> None:
        """Read until it is cancelled, or the export is over."""
        parts = urlsplit(base_url)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            await loop.sock_connect(raw, (parts.hostname, parts.port))
            request = f"GET {EXPORT}?{urlencode(params)} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"
            await loop.sock_sendall(raw, request.encode())
            self.begun = time.monotonic()
            while data := await loop.sock_recv(raw, 16_384):
                self.received += len(data)
                await asyncio.sleep(max(0.0, self.begun + self.received / self.rate - time.monotonic()))
        finally:
            raw.close()


async def slow(
    base_url: str, headers: dict[str, str], owner_url: str, worker: int, options: argparse.Namespace
) -> None:
    """Memory, lists and transactions without and with slow exports."""
    await work(base_url, headers, owner_url, worker, 15)
    alone = await work(base_url, headers, owner_url, worker, options.seconds / 2)
    print(f"alone: {alone.told()}", flush=True)
    for form in options.formats.split(","):
        client = SlowClient(options.rate)
        taking = asyncio.create_task(client.take(base_url, headers, {"format": form, "from": "now-30d"}))
        beside = await work(base_url, headers, owner_url, worker, options.seconds)
        elapsed = time.monotonic() - client.begun
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        print(f"beside {form} at {client.received / elapsed / 1000:.0f} kB/s: {beside.told()}")
        print(f"  memory: {max(beside.megabytes) - max(alone.megabytes):+.1f} MB at most", flush=True)


async def whole(base_url: str, headers: dict[str, str], params: dict[str, Any]) -> tuple[int, float, str, float]:
    """Return bytes, seconds and checksum of an export read as fast as it comes, and the seconds to its first byte."""
    begun, size, checksum, first = time.monotonic(), 0, hashlib.sha256(), 0.0
    async with (
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=120) as http,
        http.stream("GET", EXPORT, params=params) as answer,
    ):
        async for data in answer.aiter_raw():
            first = first or time.monotonic() - begun
            size += len(data)
            checksum.update(data)
    return size, time.monotonic() - begun, checksum.hexdigest(), first


async def until_killed(
    program: Program, headers: dict[str, str], params: dict[str, Any], most: int
) -> tuple[bytes, str]:
    """Return the received part of an export whose server was killed after ``most`` bytes, and its id."""
    got = bytearray()
    async with (
        httpx.AsyncClient(base_url=program.base_url, headers=headers, timeout=120) as http,
        http.stream("GET", EXPORT, params=params) as answer,
    ):
        try:
            async for data in answer.aiter_raw():
                got += data
                if len(got) > most:
                    for pid in (*program.worker_pids(), program.process.pid):
                        os.kill(pid, signal.SIGKILL)
                    most = 1 << 62
        except httpx.TransportError as error:
            print(f"killed after {len(got):,} bytes: the client has {type(error).__name__}")
            return bytes(got), answer.headers["x-export-id"]
    raise RuntimeError("the cut was not noticed")


async def continued(base_url: str, headers: dict[str, str], params: dict[str, Any], got: bytes, export_id: str) -> str:
    """Return the checksum of the file that is made of what came and the rest."""
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=120) as http:
        manifest = (await http.get(f"/api/v1/exports/{export_id}", params={"bytes": len(got)})).json()["data"]
        print(f"its record: {manifest['state']}, go on at {manifest['resume_bytes']:,} bytes")
        rest = await http.get(EXPORT, params={**params, "after": manifest["after"]})
        rest.raise_for_status()
    return hashlib.sha256(got[: manifest["resume_bytes"]] + rest.content).hexdigest()


async def fill(urls: EmbeddedUrls, spans: int) -> None:
    """Store spans over 30 days, without rollups, which no list reads."""
    await migrate(urls.owner_url)
    await load(urls.owner_url, spans, datetime.now(UTC))


async def measure(urls: EmbeddedUrls, folder: Path, options: argparse.Namespace) -> None:
    """Print all figures."""
    await fill(urls, options.spans)
    token = issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.ADMIN, projects=[PROJECT])
    headers = {"Authorization": f"Bearer {token}"}
    # pyarrow imports pandas where it is installed, which costs 33 MB; the program does not need it.
    (folder / "without").mkdir()
    (folder / "without" / "pandas.py").write_text('raise ImportError("left out")\n')
    environment = serve_environment(urls, OBSERVATORY_INGEST_SPANS_PER_MINUTE="0", PYTHONPATH=str(folder / "without"))
    until = datetime.now(UTC).isoformat()
    params = {"format": "ndjson", "trailer": "false", "from": "now-30d", "to": until}
    with Program(folder, ["serve"], environment) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving, 300)
        (worker,) = program.worker_pids()
        await slow(base_url, headers, urls.owner_url, worker, options)
        params["from"] = datetime.fromtimestamp(time.time() - (DAYS - 1) * 86400, UTC).isoformat()
        before = resident_megabytes(worker)
        size, seconds, checksum, first = await whole(base_url, headers, params)
        print(
            f"as fast as it comes: first byte after {first * 1000:.0f} ms, {size / 1e6:.0f} MB in {seconds:.1f} s; "
            f"memory {resident_megabytes(worker) - before:+.1f} MB"
        )
        got, export_id = await until_killed(program, headers, params, size // 3)
    with Program(folder, ["serve"], environment) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving, 300)
        same = await continued(base_url, headers, params, got, export_id) == checksum
        print(f"the file in two parts is {'the same' if same else 'ANOTHER'} as the whole one")


def main() -> None:
    """Start private services, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=300_000)
    parser.add_argument("--rate", type=int, default=200_000, help="bytes a second that the client takes")
    parser.add_argument("--seconds", type=float, default=180.0, help="of each slow export")
    parser.add_argument("--formats", default="ndjson,parquet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="observatory-export-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        embedded = EmbeddedServices(folder / "data", postgres_settings=MEASURED)
        try:
            asyncio.run(measure(embedded.start(), folder, options))
        finally:
            embedded.stop()


if __name__ == "__main__":
    main()
