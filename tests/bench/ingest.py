"""Durable ingest over HTTP against bare COPY: ``make bench-ingest`` (ARGS="--rounds 7 --variant plain").

Everything is measured side by side in one run on one PostgreSQL (fsync on), in interleaved rounds; what counts are
the ratios of medians, not the absolute numbers.

    floor    binary COPY of ready rows, 500 a transaction, into a table with the same columns and the same
             indexes as llm_traces, by one and by two connections: no HTTP, no mapping, no summaries, no rollups
             full text: an index on to_tsvector('simple', words), the words as cut by us
    ours     OTLP/HTTP protobuf batches of 100 spans: authentication, mapping, pricing, upsert, summaries, rollups;
             answered after COMMIT; each span is new

once with full text and once without (OBSERVATORY_FULL_TEXT=off, the floor without the GIN index). The
pending list of a text index is settled within the measured time, on both sides.

Beside the ratio of the medians is the median of the rounds' own ratios: a disk or a host that changes its pace from
round to round puts the medians of the two sides into different rounds.

Each of them stores the same number of spans a round, enough for some seconds: a burst of a tenth of a second into
memory that is still warm says little about what can be kept up. The rate is that of 16 clients, the time of a batch
that of four, after a checkpoint: else it would be that of a disk which still writes what COPY has left.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.ingest.mapping.span_mapping import map_spans
from server.ingest.otlp.decode import decode_traces
from server.ingest.writing.prepared_span import COLUMNS, PreparedSpan, prepare_span
from server.queries.filters.search_text import search_document
from server.schema.migrate import migrate
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.load import Vocabulary
from tests.ingest.otlp_payloads import PROTOBUF, export_request
from tests.process.program import Program

PROJECT = "bench"
_TEXT, _PLAIN = ("full text", True), ("no full text", False)
VARIANTS = {"both": (_TEXT, _PLAIN), "text": (_TEXT,), "plain": (_PLAIN,)}
RATES = ("COPY, 1 writer", "COPY, 2 writers", "ours")
SPANS = 100
ROWS_A_COMMIT = 500
PLAIN_BATCHES = 4
"""Without full text so many times the batches, which are stored that much faster."""
FLOOR_COLUMNS = tuple("search_text" if name == "search_vector" else name for name in COLUMNS)


class Payloads:
    """OTLP batches of believable spans: a prompt and an answer of a few hundred words, new ids each time."""

    def __init__(self, seed: int, words: int) -> None:
        self._chance = random.Random(seed)
        self._vocabulary = Vocabulary(self._chance)
        self._words = words

    def batch(self) -> bytes:
        """Return one request of 100 spans in four traces."""
        request = export_request(SPANS)
        for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
            if number % 25 == 0:
                trace_id, root = secrets.token_bytes(16), span.span_id
                session = f"session-{self._chance.randrange(10_000)}"
            span.trace_id = trace_id
            if number % 25:
                span.parent_span_id = root
            for key, value in (
                ("gen_ai.conversation.id", session),
                ("user.id", f"user-{self._chance.randrange(2000)}"),
                ("gen_ai.prompt", self._vocabulary.text(self._words)),
                ("gen_ai.completion", self._vocabulary.text(self._words // 3)),
                ("team", self._chance.choice(("search", "support", "checkout"))),
                ("note", self._vocabulary.text(20)),
            ):
                attribute = span.attributes.add(key=key)
                attribute.value.string_value = value
        return request.SerializeToString()


def prepared_rows(bodies: Sequence[bytes], *, full_text: bool) -> list[PreparedSpan]:
    """Return the rows that the writer would copy for ``bodies``, with the words instead of their vector."""
    rows: list[PreparedSpan] = []
    for body in bodies:
        batch = map_spans(decode_traces(body, PROTOBUF), now=datetime.now(UTC))
        for record in batch.records:
            row = prepare_span(PROJECT, record, full_text=False)
            words = search_document(record.input_text, record.output_text) if full_text else ""
            row.values[FLOOR_COLUMNS.index("search_text")] = words
            rows.append(row)
    return rows


async def make_floor(owner: asyncpg.Connection, table: str, *, full_text: bool) -> None:
    """Create a plain table with the columns and indexes of llm_traces; full text as an expression index."""
    await owner.execute(
        f"CREATE TABLE {table} (LIKE llm_traces INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
    )
    await owner.execute(f"ALTER TABLE {table} DROP COLUMN search_vector, ADD COLUMN search_text text STORAGE EXTERNAL")
    await owner.execute(f"ALTER TABLE {table} SET (toast_tuple_target = 8160)")
    for row in await owner.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'llm_traces'"):
        definition = row["indexdef"].replace(f" {row['indexname']} ", f" {table}_{row['indexname']} ")
        definition = definition.replace(" ON ONLY ", " ON ").replace("public.llm_traces ", f"{table} ")
        if "search_vector" in definition:
            if not full_text:
                continue
            definition = definition.replace("search_vector", "to_tsvector('simple', search_text)")
        await owner.execute(definition)
    await owner.execute(f"CALL prepare_trace_partition('{table}')")
    await owner.execute(f"DROP TRIGGER note_copied_spans ON {table}")


async def run_floor(url: str, table: str, rows: list[PreparedSpan], writers: int) -> float:
    """Return the rows a second of ``writers`` connections."""
    chunks = [rows[start : start + ROWS_A_COMMIT] for start in range(0, len(rows), ROWS_A_COMMIT)]
    connections = [await asyncpg.connect(url) for _ in range(writers)]

    async def write(connection: asyncpg.Connection) -> None:
        while chunks:
            chunk = chunks.pop()
            await connection.copy_records_to_table(
                table, records=(row.values for row in chunk), columns=FLOOR_COLUMNS, timeout=120
            )

    started = time.perf_counter()
    await asyncio.gather(*map(write, connections))
    await settle_text(connections[0], table)
    elapsed = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return len(rows) / elapsed


async def settle_text(connection: asyncpg.Connection, table: str) -> None:
    """Move what waits in the pending lists of the text indexes of ``table`` and its partitions into them."""
    await connection.execute(
        """
        SELECT gin_clean_pending_list(i.indexrelid) FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname = 'gin' AND (i.indrelid = $1::text::regclass OR i.indrelid IN (
            SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::text::regclass))
        """.replace("$1", f"'{table}'")
    )


async def run_ours(
    base_url: str, token: str, bodies: list[bytes], clients: int, owner: asyncpg.Connection
) -> tuple[float, list[float]]:
    """Return the spans a second of ``clients`` connections, and the seconds of each batch."""
    count = len(bodies)
    waiting, seconds = list(bodies), []
    headers = {"Authorization": f"Bearer {token}", "Content-Type": PROTOBUF}

    async def send() -> None:
        async with LoadConnection(base_url, headers) as connection:
            while waiting:
                body = waiting.pop()
                started = time.perf_counter()
                status = await connection.post("/v1/traces", body)
                seconds.append(time.perf_counter() - started)
                if status != 200:
                    raise RuntimeError(f"the server answered {status}")

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(clients)))
    await settle_text(owner, "llm_traces")
    return count * SPANS / (time.perf_counter() - started), seconds


class Measured:
    """The rounds of one variant."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.seconds: list[float] = []

    def add(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)

    def median(self, name: str) -> float:
        return statistics.median(self.rates[name])

    def ratios(self) -> list[float]:
        """Return our rate divided by that of the better COPY of the same round."""
        return [ours / max(one, two) for one, two, ours in zip(*(self.rates[name] for name in RATES), strict=True)]


async def measure(urls: EmbeddedUrls, folder: Path, arguments: argparse.Namespace, *, full_text: bool) -> Measured:
    """Run all rounds, with or without full text."""
    owner = await asyncpg.connect(urls.owner_url)
    table = "floor_text" if full_text else "floor_plain"
    await make_floor(owner, table, full_text=full_text)
    if not full_text:
        await owner.execute("DROP INDEX llm_traces_text")
    measured, payloads = Measured(), Payloads(1 if full_text else 2, arguments.words)
    environment = {
        "DATABASE_URL": urls.database_url,
        "DATABASE_OWNER_URL": urls.owner_url,
        "DATABASE_WORKER_URL": urls.worker_url,
        "REDIS_URL": urls.redis_url,
        "JWT_SECRET": urls.jwt_secret,
        "OBSERVATORY_PORT": "0",
        "OBSERVATORY_FULL_TEXT": "on" if full_text else "off",
        "OBSERVATORY_INGEST_SPANS_PER_MINUTE": "0",
    }
    token = issue_token(Settings(jwt_secret=urls.jwt_secret), role=Role.ADMIN, projects=[PROJECT])
    interner = await bench_dimensions(urls)
    batches = arguments.batches * (1 if full_text else PLAIN_BATCHES)
    with Program(folder, ["serve", "--workers", str(arguments.workers)], environment) as program:
        base_url = await asyncio.to_thread(program.wait_until_serving)
        await run_ours(base_url, token, [payloads.batch() for _ in range(4)], 4, owner)
        for number in range(arguments.rounds):
            for writers, name in enumerate(RATES[:2], start=1):
                rows = prepared_rows([payloads.batch() for _ in range(batches)], full_text=full_text)
                for row in rows:
                    row.values.append(interner)
                measured.add(name, await run_floor(urls.owner_url, table, rows, writers))
            bodies = [payloads.batch() for _ in range(batches)]
            rate, _ = await run_ours(base_url, token, bodies, arguments.clients, owner)
            measured.add(RATES[2], rate)
            bodies = [payloads.batch() for _ in range(arguments.batches)]
            await owner.execute("CHECKPOINT")
            _, seconds = await run_ours(base_url, token, bodies, 4, owner)
            measured.seconds += seconds
            rates = ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in measured.rates.items())
            print(f"  round {number + 1}: {rates}, ratio {measured.ratios()[-1]:.2f}")
    await owner.close()
    return measured


async def bench_dimensions(urls: EmbeddedUrls) -> int:
    """Return a dim_id for the rows of the floor."""
    owner = await asyncpg.connect(urls.owner_url)
    dim_id = await owner.fetchval(
        "INSERT INTO span_dimensions (project_id, model, is_generation) VALUES ($1, $2, true) RETURNING dim_id",
        PROJECT,
        secrets.token_hex(4),
    )
    await owner.close()
    return int(dim_id)


def report(name: str, measured: Measured) -> None:
    """Print one variant as lines of a table."""
    floor = max(map(measured.median, RATES[:2]))
    seconds = sorted(measured.seconds)
    p99 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    for row, rates in measured.rates.items():
        median = statistics.median(rates)
        print(f"| {name} | {row} | {median:,.0f} | {min(rates):,.0f}-{max(rates):,.0f} | {median / floor:.2f} |")
    ratios = measured.ratios()
    print(
        f"| {name} | ours to the better COPY of the same round | | {min(ratios):.2f}-{max(ratios):.2f} "
        f"| {statistics.median(ratios):.2f} |"
    )
    p50 = statistics.median(seconds)
    print(f"| {name} | a batch, 4 clients: p50 / p99 | {p50 * 1000:.0f} / {p99 * 1000:.0f} ms | | |")


async def compare(urls: EmbeddedUrls, folder: Path, arguments: argparse.Namespace) -> None:
    """Measure both variants and print the table."""
    await migrate(urls.owner_url)
    owner = await asyncpg.connect(urls.owner_url)
    await owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
    await owner.execute("SELECT ensure_trace_partition($1)", datetime.now(UTC) - timedelta(seconds=5))
    await owner.close()
    results = {}
    for label, full_text in VARIANTS[arguments.variant]:
        print(label)
        results[label] = await measure(urls, folder, arguments, full_text=full_text)
    print("\n| variant | what | spans/s, median | range | to the better floor |\n|---|---|---|---|---|")
    for label, measured in results.items():
        report(label, measured)


def main(arguments: argparse.Namespace) -> None:
    """Start private services, measure, print."""
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedServices(folder / "data") as urls:
            asyncio.run(compare(urls, folder, arguments))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=60, help="requests of 100 spans a round, with full text")
    parser.add_argument("--words", type=int, default=500, help="words of a prompt; an answer has a third")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--variant", choices=VARIANTS, default="both")
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
