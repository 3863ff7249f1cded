"""A model of what an installation of a size needs: the assumptions, the arithmetic, and the table of scaling.md.

``python -m tests.docs.scaling_model 2000 --days 90`` prints the line of another size. Every assumption is a number of
:class:`Assumptions`, with where it comes from; change them there.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, fields

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Costs per span and per machine. Measured on two cores; sizes are those of agent conversations without reuse."""

    received_bytes: float = 2_000
    """Of one span, decoded: half a page of prompt and answer."""
    stored_factor: float = 4.2
    """Bytes on disk for each byte received, indexes included (docs/benchmarks/agent-conversations.md)."""
    parquet_factor: float = 0.31
    """Bytes of an exported Parquet file for each byte received (docs/decisions/0218-cold-spans-as-parquet.md)."""
    log_factor: float = 4.9
    """Bytes of write-ahead log for each byte received (same page)."""
    server_us: float = 100
    """Microseconds of a core of the server for one span (docs/benchmarks/where-ingest-spends-its-time.md)."""
    database_us: float = 600
    """Microseconds of a core of PostgreSQL for one span with full text; 80 without."""
    core_share: float = 0.6
    """Part of a core that is planned for: the rest is for readers, vacuum and the evening."""
    writer_cores: int = 32
    """Cores of one PostgreSQL beyond which locks and the log cost more than cores bring."""
    disk_bytes: float = 20e12
    """Data of one PostgreSQL that is still copied, restored and vacuumed within a day."""
    log_bytes_per_second: float = 400e6
    """Write-ahead log that one machine writes and one replica receives and replays."""


@dataclass(frozen=True, slots=True)
class Size:
    """The needs of an installation. ``nodes`` is the number of PostgreSQL primaries, and ``first`` what asks for it."""

    spans_per_second: int
    days: int
    server_cores: int
    database_cores: int
    stored_bytes: float
    parquet_bytes: float
    log_bytes_per_second: float
    nodes: int
    first: str


def size_of(spans_per_second: int, days: int, given: Assumptions | None = None) -> Size:
    """Return the size for a mean rate that lasts for ``days`` of retention."""
    one = given or Assumptions()
    received = spans_per_second * SECONDS_PER_DAY * days * one.received_bytes
    stored = received * one.stored_factor
    log = spans_per_second * one.received_bytes * one.log_factor
    cores = math.ceil(spans_per_second * one.database_us / 1e6 / one.core_share)
    needs = {
        "cores": cores / one.writer_cores,
        "disk": stored / one.disk_bytes,
        "log": log / one.log_bytes_per_second,
    }
    first = max(needs, key=lambda name: needs[name])
    nodes = max(1, math.ceil(needs[first]))
    servers = math.ceil(spans_per_second * one.server_us / 1e6 / one.core_share)
    return Size(
        spans_per_second=spans_per_second,
        days=days,
        server_cores=servers,
        database_cores=cores,
        stored_bytes=stored,
        parquet_bytes=received * one.parquet_factor,
        log_bytes_per_second=log,
        nodes=nodes,
        first=first if nodes > 1 else "",
    )


SIZES = ((20, 90), (200, 90), (2_000, 30), (2_000, 90), (20_000, 30), (1_000_000, 7))


def table() -> str:
    """Return the table of sizes."""
    rows = [
        (
            "| Spans a second | Days | Server cores | PostgreSQL cores | Disk | The same as Parquet | Log a second |"
            " PostgreSQLs | First |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for spans, days in SIZES:
        size = size_of(spans, days)
        rows.append(
            f"| {spans:,} | {days} | {size.server_cores:,} | {size.database_cores:,} | {_bytes(size.stored_bytes)} | "
            f"{_bytes(size.parquet_bytes)} | {_bytes(size.log_bytes_per_second)} | {size.nodes:,} | {size.first} |"
        )
    return "\n".join(rows)


def assumptions() -> str:
    """Return the assumptions as a list."""
    one = Assumptions()
    return "\n".join(f"- `{item.name}` {getattr(one, item.name):,g}" for item in fields(Assumptions))


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} TB" if value >= 100 else f"{value:.3g} TB"


def main() -> None:
    """Print the size for a rate."""
    parser = argparse.ArgumentParser(description="What an installation of a size needs.")
    parser.add_argument("spans_per_second", type=int)
    parser.add_argument("--days", type=int, default=90)
    options = parser.parse_args()
    print(size_of(options.spans_per_second, options.days))


if __name__ == "__main__":
    main()
