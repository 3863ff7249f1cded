"""The live tail: ``make bench-live`` (ARGS="--rate 2000 --seconds 20 --idle 1000").

Memory and processor time of streams on which nothing happens; the time from the answer to a sender, hence after COMMIT,
to a client of one of 50 streams; and what noting spans in the feed costs their writer, in transactions that take turns
with and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.app import build_services, close_services, open_services
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.ingest.writing import span_changes
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import SPANS, Payloads
from tests.bench.server_process import serve_environment
from tests.bench.soak import resident_megabytes
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program
from tests.span_factory import make_span

PROJECT = "alpha"
STREAMS = 50
SENDERS = 2


class Stream:
    """One client: counts the events that come."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.bytes = 0
        self.gaps = 0
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None]

    async def open(self, base_url: str, headers: dict[str, str], *, counts: bool) -> None:
        """Connect, and return once the first heartbeat is there."""
        parts = urlsplit(base_url)
        reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"GET /api/v1/traces/live?fields=core,cost HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        await reader.readuntil(b"event: heartbeat")
        self._task = asyncio.create_task(self._count(reader) if counts else self._drain(reader))

    async def _count(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 18):
            self.bytes += len(data)
            # A name that is cut in two is missed; one in a thousand does not change a percentile.
            self.arrivals += [time.monotonic()] * data.count(b"event: span")
            self.gaps += data.count(b"event: gap")

    async def _drain(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 18):
            self.bytes += len(data)

    def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        self._writer.close()


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def idle(base_url: str, worker: int, headers: dict[str, str], count: int) -> None:
    """Memory and processor time of ``count`` streams without events."""
    before = resident_megabytes(worker)
    streams = [Stream() for _ in range(count)]
    for start in range(0, count, 50):
        await asyncio.gather(*(stream.open(base_url, headers, counts=False) for stream in streams[start : start + 50]))
    await asyncio.sleep(3)
    after, used = resident_megabytes(worker), processor_seconds(worker)
    await asyncio.sleep(16)
    used = (processor_seconds(worker) - used) / 16
    print(f"{count} idle streams: {after - before:.1f} MB more ({before:.1f} before), {used:.1%} of a core", flush=True)
    for stream in streams:
        stream.close()


async def latency(base_url: str, headers: dict[str, str], rate: int, seconds: float) -> None:
    """Time from the answer to the sender to the client, with ``rate`` spans a second."""
    payloads = Payloads(1, words=60)
    bodies = [payloads.batch() for _ in range(int(rate * seconds / SPANS))]
    streams = [Stream() for _ in range(STREAMS)]
    await asyncio.gather(*(stream.open(base_url, headers, counts=number == 0) for number, stream in enumerate(streams)))
    acknowledged: list[float] = []
    begun, own = time.monotonic(), time.process_time()

    async def send(number: int) -> None:
        async with LoadConnection(base_url, headers | {"Content-Type": PROTOBUF}) as connection:
            for index in range(number, len(bodies), SENDERS):
                await asyncio.sleep(max(0.0, begun + index * SPANS / rate - time.monotonic()))
                status = await connection.post("/v1/traces", bodies[index])
                acknowledged.extend([time.monotonic()] * (SPANS if status == 200 else 0))

    await asyncio.gather(*(send(number) for number in range(SENDERS)))
    took, own = time.monotonic() - begun, time.process_time() - own
    async with asyncio.timeout(60):
        while len(streams[0].arrivals) < len(acknowledged) * 0.999:
            await asyncio.sleep(0.05)
    late = sorted(
        max(0.0, there - acked) for acked, there in zip(sorted(acknowledged), streams[0].arrivals, strict=False)
    )
    quantiles = {name: late[int(len(late) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99))}
    print(
        f"{STREAMS} streams, {len(acknowledged) / took:.0f} spans/s: p50 {quantiles['p50']:.0f} ms, "
        f"p99 {quantiles['p99']:.0f} ms, {streams[0].gaps} gaps, "
        f"{sum(stream.bytes for stream in streams) / took / 1e6:.1f} MB/s sent; "
        f"senders and clients took {own / took:.0%} of a core",
        flush=True,
    )
    for stream in streams:
        stream.close()


async def cost_of_the_feed(urls: EmbeddedUrls, rounds: int) -> None:
    """Time transactions of 500 spans, in turn with and without a note in the feed."""
    services = build_services(
        Settings(database_url=urls.database_url, database_worker_url=urls.worker_url, jwt_secret=urls.jwt_secret)
    )
    await open_services(services)
    writer = SpanWriter(services.writes, Dimensions(services.writes, most_combinations=1000), None)
    module: Any = span_changes
    real = module.statement
    took: dict[str, list[float]] = {"with": [], "without": []}

    def without_feed(name: str) -> str:
        return "SELECT 1" if name == "note_in_feed" else str(real(name))

    words = "a prompt of a few dozen words " * 20
    for number in range(rounds * 2):
        kind = ("with", "without")[number % 2]
        batch: list[Any] = [
            prepare_span(PROJECT, make_span(input_text=f"{number} {words}", output_text=words)) for _ in range(500)
        ]
        module.statement = real if kind == "with" else without_feed
        begun = time.perf_counter()
        await writer.store(batch)
        took[kind].append(time.perf_counter() - begun)
    module.statement = real
    await close_services(services)
    pairs = [a / b for a, b in zip(took["with"], took["without"], strict=True)]
    print(
        f"the feed in a transaction of 500 spans: {statistics.median(took['with']) * 1000:.1f} ms with, "
        f"{statistics.median(took['without']) * 1000:.1f} without; median of pairs {statistics.median(pairs):.3f}",
        flush=True,
    )


async def measure(urls: EmbeddedUrls, folder: Path, arguments: argparse.Namespace) -> None:
    """Print all figures."""
    await migrate(urls.owner_url)
    owner = await asyncpg.connect(urls.owner_url)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
    await owner.close()
    await cost_of_the_feed(urls, arguments.rounds)
    token = issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.DEVELOPER, projects=[PROJECT])
    headers = {"Authorization": f"Bearer {token}"}
    more = {"OBSERVATORY_LIVE_STREAMS": "100000", "OBSERVATORY_INGEST_SPANS_PER_MINUTE": "0"}
    with Program(folder, ["serve"], serve_environment(urls, **more)) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving, 300)
        (worker,) = program.worker_pids()
        await latency(base_url, headers, arguments.rate, arguments.seconds)
        await idle(base_url, worker, headers, arguments.idle)


def main() -> None:
    """Start private services, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2000, help="spans a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long spans are sent")
    parser.add_argument("--idle", type=int, default=1000, help="idle streams")
    parser.add_argument("--rounds", type=int, default=40, help="transactions with and without the feed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="observatory-live-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        services = EmbeddedServices(folder / "data")
        try:
            asyncio.run(measure(services.start(), folder, arguments))
        finally:
            services.stop()


if __name__ == "__main__":
    main()
