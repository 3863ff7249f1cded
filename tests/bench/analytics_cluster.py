"""The cluster that ``tests.bench.analytics`` measures: loaded once, kept where the caller says, measured often.

``DIR/bench.json`` remembers the end of the 30 days and which sizes are loaded; each size is a database of its own.
Loading runs without fsync and is followed by a checkpoint; measuring runs with the settings of a real server.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from server.app import build_services
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.http.services import Services
from server.rollups.rebuild import rebuild_rollups
from server.schema.migrate import migrate
from server.settings import Settings
from server.upkeep.retention import apply_retention
from tests.bench.analytics_data import DAYS, PROJECT, copy_to_parquet, load

MEASURED: Final = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
LOADING: Final = {
    **MEASURED,
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "maintenance_work_mem": "512MB",
}


@dataclass(slots=True)
class Cluster:
    """A data folder with one database a size."""

    folder: Path
    end: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=7))
    loaded: list[int] = field(default_factory=list)
    rolled_up: list[int] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path) -> Cluster:
        """Return the cluster in ``folder``, which may be new."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        notes = folder / "bench.json"
        if not notes.exists():
            return cls(folder)
        found = json.loads(notes.read_text())
        return cls(folder, datetime.fromisoformat(found["end"]), found["loaded"], found["rolled_up"])

    def start(self, settings: dict[str, str]) -> tuple[EmbeddedServices, EmbeddedUrls]:
        """Start it; the caller stops it."""
        embedded = EmbeddedServices(self.folder / "data", postgres_settings=settings)
        return embedded, embedded.start()

    def note(self) -> None:
        """Remember what is loaded."""
        notes = {"end": self.end.isoformat(), "loaded": self.loaded, "rolled_up": self.rolled_up}
        (self.folder / "bench.json").write_text(json.dumps(notes))

    def parquet_of(self, size: int) -> Path:
        """Return the copy for the yardstick."""
        return self.folder / f"spans-{size}.parquet"

    async def fill(self, urls: EmbeddedUrls, size: int, *, with_parquet: bool) -> None:
        """Make spans, rollups, statistics and Parquet copy of the database for ``size``, as far as they are missing."""
        owner_url = database_of(urls.owner_url, size)
        if size not in self.loaded:
            await make_database(urls.owner_url, f"analytics_{size}")
            await migrate(owner_url)
            started = time.perf_counter()
            await load(owner_url, size, self.end)
            self.loaded.append(size)
            self.note()
            print(f"{size:,} spans loaded in {time.perf_counter() - started:.0f} s", flush=True)
        if with_parquet and not self.parquet_of(size).exists():
            owner = await asyncpg.connect(owner_url)
            await copy_to_parquet(owner, self.parquet_of(size))
            await owner.close()
        if size not in self.rolled_up:
            services = services_of(urls, size)
            await services.worker.open()
            await apply_retention(services.worker, services.settings, self.end)
            started, cpu = time.perf_counter(), time.process_time()
            await rebuild_rollups(services.worker, [PROJECT], self.end - timedelta(days=DAYS), self.end)
            seconds, own = time.perf_counter() - started, time.process_time() - cpu
            await services.worker.close()
            owner = await asyncpg.connect(owner_url)
            await owner.execute("VACUUM ANALYZE")
            await owner.execute("CHECKPOINT")
            await owner.close()
            self.rolled_up.append(size)
            self.note()
            load_average = os.getloadavg()[0]
            print(
                f"{size:,} spans: rollups built in {seconds:.1f} s, {own:.1f} s of it Python (load {load_average:.1f})",
                flush=True,
            )


async def make_database(owner_url: str, name: str) -> None:
    """Create an empty database; drop one of that name first."""
    admin = await asyncpg.connect(owner_url)
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()


def database_of(url: str, name: object) -> str:
    """Return the address of another database of the same cluster: that of a size, or of a name."""
    base, _, query = url.partition("?")
    return f"{base.rpartition('/')[0]}/analytics_{name}?{query}"


def services_of(urls: EmbeddedUrls, name: object, **settings: Any) -> Services:
    """Return the server's own services over one database."""
    return build_services(
        Settings(
            database_url=database_of(urls.database_url, name),
            database_owner_url=database_of(urls.owner_url, name),
            database_worker_url=database_of(urls.worker_url, name),
            redis_url=urls.redis_url,
            jwt_secret="b" * 32,
            statement_timeout=600.0,
            **settings,
        )
    )
