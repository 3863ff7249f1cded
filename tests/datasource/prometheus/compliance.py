"""Puts the queries of the published PromQL compliance suite to a real Prometheus and to our evaluator.

    python -m tests.datasource.prometheus.compliance path/to/promql-test-queries.yml

The suite is the folder ``promql`` of https://github.com/prometheus/compliance. A private Prometheus (Debian's package
``prometheus``, which brings ``promtool``) gets two hours of made-up samples as blocks; the evaluator gets the same
samples in memory. Both answer each query over a range. No step, and no step of a subquery, meets a sample: windows of
Prometheus 2 include their left border and those of Prometheus 3, and ours, do not. Exits with 1 when an answer differs.
Without the binaries or the file nothing is compared, and it says NOT RUN and exits with 3.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from datasource.prometheus.answers import render_result
from datasource.prometheus.promql.engine import answer, range_question
from datasource.prometheus.promql.errors import PromqlError
from tests.datasource.prometheus.demo_samples import LENGTH_MS, as_openmetrics, demo_series
from tests.datasource.prometheus.sample_source import SampleSource

NOT_RUN = 3
TOLERANCE = 1e-6
# The values of the suite's templates, as its own tool expands them.
VARIANTS: dict[str, tuple[str, ...]] = {
    "range": ("1s", "15s", "1m", "5m", "15m", "1h"),
    "offset": ("1m", "5m", "10m"),
    "simpleAggrOp": ("sum", "avg", "max", "min", "count", "stddev", "stdvar"),
    "simpleTimeAggrOp": ("sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last", "present"),
    "topBottomOp": ("topk", "bottomk"),
    "quantile": ("-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"),
    "arithBinOp": ("+", "-", "*", "/", "%", "^"),
    "compBinOp": ("==", "!=", "<", ">", "<=", ">="),
    "binOp": ("+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="),
    "simpleMathFunc": ("abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"),
    "extrapolatedRateFunc": ("delta", "rate", "increase"),
    "clampFunc": ("clamp_min", "clamp_max"),
    "instantRateFunc": ("idelta", "irate"),
    "dateFunc": ("day_of_month", "day_of_week", "days_in_month", "hour", "minute", "month", "year"),
}


def expanded(suite: Path) -> Iterator[str]:
    """Yield every query of the suite."""
    for case in yaml.safe_load(suite.read_text(encoding="utf-8"))["test_cases"]:
        names = case.get("variant_args") or []
        for values in itertools.product(*(VARIANTS[name] for name in names)):
            query = case["query"]
            for name, value in zip(names, values, strict=True):
                query = re.sub(r"\{\{\s*\." + name + r"\s*\}\}", lambda _, value=value: value, query)  # type: ignore[misc]
            yield query


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ours(source: SampleSource, query: str, start: int, end: int, step: int) -> Any:
    """Return our answer's series, or None for a refusal."""
    try:
        result = asyncio.run(answer(range_question(query, start, end, step), source))
        return render_result(result, is_range=True)[0]["result"]
    except PromqlError as error:
        return str(error)


def theirs(client: httpx.Client, query: str, start: int, end: int, step: int) -> Any:
    """Return Prometheus' answer in the same form."""
    form = {"query": query, "start": start / 1000, "end": end / 1000, "step": step / 1000}
    body = client.post("/api/v1/query_range", data=form).json()
    return body["data"]["result"] if body["status"] == "success" else body["error"]


def difference(one: Any, other: Any) -> str | None:
    """Return the difference in a few words."""
    if isinstance(one, str) or isinstance(other, str):
        return None if isinstance(one, str) and isinstance(other, str) else f"{one!s:.200} | {other!s:.200}"
    mine, real = ({json.dumps(row["metric"], sort_keys=True): dict(map(tuple, row["values"])) for row in rows}
                  for rows in (one, other))  # fmt: skip
    if mine.keys() != real.keys():
        return (
            f"series: only ours {sorted(mine.keys() - real.keys())[:2]}, only theirs {sorted(real.keys() - mine)[:2]}"
        )
    for labels, values in mine.items():
        if values.keys() != real[labels].keys():
            return f"{labels}: {len(values)} points, theirs {len(real[labels])}"
        for moment, text in values.items():
            if not _equal(float(text), float(real[labels][moment])):
                return f"{labels} at {moment}: {text}, theirs {real[labels][moment]}"
    return None


def _equal(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-9)


def compare(suite: Path) -> int:
    """Run the comparison; the number of queries that differ."""
    start = (time.time_ns() // 1_000_000 - 6 * 3_600_000) // 7_200_000 * 7_200_000
    series = demo_series(start)
    source = SampleSource(series)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "samples.txt").write_text(as_openmetrics(series))
        (place / "prometheus.yml").write_text("scrape_configs: []\n")
        made = [
            "promtool",
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            str(place / "samples.txt"),
            str(place / "data"),
        ]
        subprocess.run(made, check=True, capture_output=True)
        port = free_port()
        program = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={place / 'prometheus.yml'}",
                f"--storage.tsdb.path={place / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=promql-at-modifier,promql-negative-offset",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait(client)
                return _compared(client, source, list(expanded(suite)), start)
        finally:
            program.terminate()
            program.wait(10)


def _compared(client: httpx.Client, source: SampleSource, queries: list[str], start: int) -> int:
    first, last, step = start + 3_600_007, start + LENGTH_MS - 60_000, 120_000
    different = 0
    for query in queries:
        found = difference(ours(source, query, first, last, step), theirs(client, query, first, last, step))
        if found is not None:
            different += 1
            print(f"DIFFERENT {query}\n    {found}")
    print(f"{len(queries)} queries, {len(queries) - different} with the same answer")
    return different


def _wait(client: httpx.Client) -> None:
    for _ in range(100):
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError("Prometheus does not start")


if __name__ == "__main__":
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    if missing:
        print(f"NOT RUN: {' and '.join(missing)} missing; install Debian's package prometheus")
        sys.exit(NOT_RUN)
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print("NOT RUN: name the suite's promql-test-queries.yml (github.com/prometheus/compliance, folder promql)")
        sys.exit(NOT_RUN)
    sys.exit(1 if compare(Path(sys.argv[1])) else 0)
