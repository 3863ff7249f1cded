"""One build of this program under measurement, and where its bytes are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedUrls
from server.settings import Settings
from tests.bench.agents.copies import add_copies
from tests.bench.agents.store import Store, parent_of, with_descendants
from tests.bench.conversations import TENANTS
from tests.bench.ingest import settle_text
from tests.bench.server_process import serve_environment
from tests.ingest.otlp_payloads import PROTOBUF
from tests.process.program import Program

SIZE = """
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname = 'public'
"""
BRIEF = """
SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint
FROM unnest('{span_feed,response_notes,rollup_delta,actor_delta,span_updates,content_garbage}'::text[]) AS brief (name)
"""
LARGEST = """
SELECT coalesce(parent.relname, c.relname) AS name, sum(pg_table_size(c.oid))::bigint AS rows,
       sum(pg_indexes_size(c.oid))::bigint AS indexes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relkind = 'r' AND n.nspname = 'public' GROUP BY 1 ORDER BY sum(pg_total_relation_size(c.oid)) DESC LIMIT 4
"""
EACH = """
SELECT regexp_replace(coalesce(owner.relname, c.relname), '_[0-9]{8}', '') ||
       CASE WHEN i.indexrelid IS NULL THEN '' ELSE ': ' || regexp_replace(c.relname, '_[0-9]{8}', '') END AS name,
       sum(CASE WHEN i.indexrelid IS NULL THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END)::bigint AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class owner ON owner.oid = i.indrelid
WHERE c.relkind IN ('r', 'i') AND n.nspname = 'public' GROUP BY 1 HAVING sum(pg_relation_size(c.oid)) > 0
ORDER BY size DESC
"""
WAL_KINDS = """
SELECT "resource_manager/record_type" AS name, count, combined_size, fpi_size
FROM pg_get_wal_stats($1::text::pg_lsn, $2::text::pg_lsn, true) WHERE combined_size > 0 ORDER BY combined_size DESC
"""
WAL_PLACES = """
SELECT regexp_replace(coalesce(c.relname, 'of no table here'), '_[0-9]{8}', '') AS name, count(*) AS count,
       sum(block_data_length + coalesce(main_data_length, 0))::bigint AS data, sum(block_fpi_length)::bigint AS images
FROM pg_get_wal_block_info($1::text::pg_lsn, $2::text::pg_lsn, false) b
LEFT JOIN pg_class c ON pg_relation_filenode(c.oid) = b.relfilenode
GROUP BY 1 ORDER BY sum(block_data_length + block_fpi_length) DESC LIMIT 30
"""


class Side(Store):
    """One build under measurement: its services and its server."""

    def __init__(self, name: str, code: Path, layout: str, urls: EmbeddedUrls, folder: Path) -> None:
        super().__init__(name)
        self.urls = urls
        self._layout = layout
        self._code, self._folder = code, folder
        self.owner: asyncpg.Connection
        self._roots: tuple[int, int] = (0, 0)
        """The processes that those of the server and of the database come from."""
        self._at_start: tuple[int, str] = (0, "")

    @contextlib.contextmanager
    def serving(self, workers: int) -> Iterator[None]:
        """Run the server of this build on a new database."""
        settings = serve_environment(
            self.urls,
            PYTHONPATH=str(self._code),
            OBSERVATORY_INGEST_SPANS_PER_MINUTE="0",
            OBSERVATORY_CONTENT_LAYOUT=self._layout,
        )
        command = [sys.executable, "-m", "server.cli"]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings}
        subprocess.run([*command, "migrate"], cwd=self._code, env=environment, check=True, capture_output=True)
        with Program(
            self._folder, ["serve", "--workers", str(workers)], settings, command=command, cwd=self._code
        ) as it:
            self.base_url = it.wait_until_serving(120)
            self._roots = it.process.pid, 0
            yield

    async def open(self) -> None:
        """Connect, create the tenants, and note sizes."""
        self.owner = await asyncpg.connect(self.urls.owner_url)
        for tenant in TENANTS:
            await self.owner.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", tenant)
        await self.owner.execute("SELECT ensure_trace_partition($1)", datetime.now(UTC) - timedelta(seconds=5))
        postmaster = parent_of(await self.owner.fetchval("SELECT pg_backend_pid()"))
        self._roots = self._roots[0], postmaster
        self._at_start = await self.size(), await self.owner.fetchval("SELECT pg_current_wal_lsn()::text")

    async def size(self) -> int:
        """Return the bytes of all tables and indexes."""
        return int(await self.owner.fetchval(SIZE))

    def headers(self, tenant: str, content_type: str = PROTOBUF) -> dict[str, str]:
        """Return the headers of a caller of ``tenant``."""
        token = issue_token(Settings(jwt_secret=self.urls.jwt_secret), role=Role.ADMIN, projects=[tenant])
        return {"Authorization": f"Bearer {token}", "Content-Type": content_type}

    def processes(self) -> set[int]:
        """Return the processes of the server and of PostgreSQL."""
        return set().union(*map(with_descendants, self._roots))

    async def settle(self, *, where: bool = False) -> None:
        """Note what is stored: text index settled, tables vacuumed. ``where``: print it in detail."""
        end = await self.owner.fetchval("SELECT pg_current_wal_lsn()::text")
        wal = await self.owner.fetchval(
            "SELECT pg_wal_lsn_diff($2::text::pg_lsn, $1::text::pg_lsn)::bigint", self._at_start[1], end
        )
        await self._vacuum()
        self.spans = await self.owner.fetchval("SELECT count(*) FROM llm_traces")
        received = self.received
        self.figures = {
            **self.ingest_figures(),
            "bytes on disk a byte": (size := await self.size() - self._at_start[0]) / received,
            "of these kept": (size - await self.owner.fetchval(BRIEF)) / received,
            "bytes of WAL a byte": wal / received,
        }
        if where:
            await self._print_places(end)
        for row in await self.owner.fetch(LARGEST):
            print(f"  {self.name}: {row['name']}: {row['rows'] / self.spans:,.0f} bytes a span in the table, "
                  f"{row['indexes'] / self.spans:,.0f} in indexes")  # fmt: skip

    async def grow(self, copies: int) -> None:
        """Add copies of all spans, so that questions meet a large store."""
        await add_copies(self.owner, copies)
        await self._vacuum()
        self.figures["spans when read"] = stored = await self.owner.fetchval("SELECT count(*) FROM llm_traces")
        if stored != (copies + 1) * self.spans:
            raise RuntimeError(f"{self.name}: {stored} spans with copies")

    async def _vacuum(self) -> None:
        """Vacuum all tables, after what waits in the lists of text indexes was moved into them."""
        for table in ("llm_traces", "content_parts"):
            if await self.owner.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
                await settle_text(self.owner, table)
        await self.owner.execute("VACUUM ANALYZE")

    async def _print_places(self, wal_end: str) -> None:
        print(f"\n{self.name}: bytes of a span, of {self.received / self.spans:,.0f} received")
        for row in await self.owner.fetch(EACH):
            if row["size"] > 5 * self.spans:
                print(f"  {row['size'] / self.spans:8,.0f}  {row['name']}")
        await self.owner.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        print("WAL of a span: records, bytes with and of images of pages")
        for row in (await self.owner.fetch(WAL_KINDS, self._at_start[1], wal_end))[:24]:
            print(f"  {row['count'] / self.spans:6.2f} {row['combined_size'] / self.spans:8,.0f} "
                  f"{row['fpi_size'] / self.spans:8,.0f}  {row['name']}")  # fmt: skip
        print("WAL of a span by table or index: blocks, bytes of data and of images")
        for row in await self.owner.fetch(WAL_PLACES, self._at_start[1], wal_end):
            print(f"  {row['count'] / self.spans:6.2f} {row['data'] / self.spans:8,.0f} "
                  f"{row['images'] / self.spans:8,.0f}  {row['name']}")  # fmt: skip
