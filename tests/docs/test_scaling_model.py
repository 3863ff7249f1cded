"""The model of scaling.md does its sums, and says what fails first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.docs.scaling_model import Assumptions, size_of

GIVEN = Assumptions(
    received_bytes=1_000,
    stored_factor=2,
    parquet_factor=0.5,
    log_factor=3,
    server_us=100,
    database_us=500,
    core_share=0.5,
    writer_cores=10,
    disk_bytes=1e12,
    log_bytes_per_second=1e8,
)


def test_a_size_follows_from_its_assumptions() -> None:
    size = size_of(1_000, 1, GIVEN)
    assert (size.server_cores, size.database_cores) == (1, 1)
    assert (size.stored_bytes, size.parquet_bytes) == (172.8e9, 43.2e9)
    assert size.log_bytes_per_second == 3e6
    assert (size.nodes, size.first) == (1, "")


@pytest.mark.parametrize(
    ("first", "change", "nodes"),
    [
        ("cores", {"writer_cores": 1}, 10),
        ("disk", {"disk_bytes": 1e11}, 18),
        ("log", {"log_bytes_per_second": 1e7}, 3),
    ],
)
def test_the_scarcest_part_asks_for_more_databases(first: str, change: dict[str, float], nodes: int) -> None:
    size = size_of(10_000, 1 if first == "disk" else 0, replace(GIVEN, **change))  # type: ignore[arg-type]
    assert (size.first, size.nodes) == (first, nodes)
