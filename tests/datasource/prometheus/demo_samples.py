"""Made-up samples under the names of the demo service that the published PromQL compliance suite asks about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.values import Series, labels_of

SCRAPE_MS = 15_000
OFF_MS = 4_321
"""How far off whole seconds samples lie, so that no aligned step meets one at the border of a window."""
LENGTH_MS = 2 * 3_600_000
INSTANCES = tuple(f"demo.promlabs.com:1000{number}" for number in range(3))
BOUNDS = ("0.001", "0.01", "0.1", "0.5", "1", "5", "+Inf")


def demo_series(start: int) -> list[Series]:
    """Return two hours of samples from ``start`` (ms) on: gauges, counters with resets, a histogram, one with gaps."""
    return list(_series(start))


def _series(start: int) -> Iterator[Series]:
    random = np.random.default_rng(7)
    times = np.arange(start + OFF_MS, start + LENGTH_MS, SCRAPE_MS, dtype=np.int64)
    count = len(times)
    for number, instance in enumerate(INSTANCES):
        own = (("instance", instance), ("job", "demo"))

        def series(name: str, values: Any, *more: tuple[str, str], own: object = own) -> Series:
            return Series(
                labels_of((("__name__", name), *own, *more)),  # type: ignore[misc]
                times,
                np.asarray(values, dtype=np.float64),
            )

        for place, kind in enumerate(("buffers", "cached", "free", "used")):
            wave = np.sin(np.arange(count) / 40 + place + number)
            yield series("demo_memory_usage_bytes", np.round(1e9 * (place + 1) + 3e8 * wave), ("type", kind))
        for place, mode in enumerate(("idle", "system", "user")):
            grown = np.cumsum(random.integers(0, 40, count) / 8.0 * (place + 1))
            grown[count // 2 + number :] -= grown[count // 2 + number]  # a restart
            yield series("demo_cpu_usage_seconds_total", grown, ("mode", mode))
        yield series("demo_num_cpus", np.full(count, 2.0 + number))
        yield series("demo_disk_usage_bytes", 5e9 + 1e4 * np.arange(count) * (number + 1))
        success = (times // 60_000 * 60) - 30.0 * number
        yield series("demo_batch_last_success_timestamp_seconds", success)
        hits = random.integers(0, 5, (len(BOUNDS), count))
        for place, bound in enumerate(BOUNDS):
            grown = np.cumsum(hits[: place + 1].sum(axis=0))
            yield series("demo_api_request_duration_seconds_bucket", grown, ("le", bound), ("path", "/api/foo"))
        yield series("demo_api_request_duration_seconds_count", np.cumsum(hits.sum(axis=0)), ("path", "/api/foo"))
        yield series("demo_api_request_duration_seconds_sum", np.cumsum(hits.sum(axis=0) * 0.2), ("path", "/api/foo"))
    whole = Series(
        labels_of((("__name__", "demo_intermittent_metric"), ("instance", INSTANCES[0]), ("job", "demo"))),
        times,
        np.arange(count, dtype=np.float64),
    )
    there = np.arange(count) // 40 % 2 == 0
    yield Series(whole.labels, times[there], whole.values[there])


def as_openmetrics(series: Sequence[Series]) -> str:
    """Return the samples as text that promtool makes blocks of."""
    by_name: dict[str, list[Series]] = {}
    for item in series:
        by_name.setdefault(dict(item.labels)["__name__"], []).append(item)
    lines = []
    for name, members in by_name.items():
        lines.append(f"# TYPE {name} unknown")
        for item in members:
            labels = ",".join(f'{key}="{value}"' for key, value in item.labels if key != "__name__")
            lines += [
                f"{name}{{{labels}}} {format_number(value)} {time / 1000:.3f}"
                for time, value in zip(item.times.tolist(), item.values.tolist(), strict=True)
            ]
    return "\n".join((*lines, "# EOF", ""))
