"""Processor time of mapping against another build: ``make bench-mapping ARGS="--base DIR"``.

``DIR`` is another checkout of this repository, such as one that ``git worktree add DIR COMMIT`` made. Each build runs
in a process of its own, with the libraries of this environment, and decodes, maps, prices and prepares the same bodies:
500 plain calls of a model, the usual traffic, in both encodings, and the captured payloads that both builds have.
Rounds are short and interleaved, and only processor time of the process counts, so that other programs on the machine
disturb both alike. Words for full text are left out: their cost would hide that of the mapping.

The ratio is the speed of this build to that of the other: 1 is equal, 0.95 is five per cent slower. The median of the
rounds' own ratios says it; the ratio of the best rounds confirms it on a quiet machine.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
FIXTURES: Final = "tests/fixtures/otlp"
ENCODINGS: Final = {".json": "application/json", ".pb": "application/x-protobuf"}
PLAIN_SPANS: Final = 500
_ANY_AGE: Final = timedelta(days=10_000)


def write_plain(folder: Path) -> list[Path]:
    """Write the batch of plain calls in both encodings."""
    from tests.ingest.otlp_payloads import as_json, export_request

    request = export_request(
        PLAIN_SPANS, attributes={"gen_ai.response.id": "chatcmpl-1", "gen_ai.request.max_tokens": 9}
    )
    for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
        span.trace_id = number.to_bytes(16, "big", signed=False)[:15] + b"\x01"
        span.attributes[-2].value.string_value = f"chatcmpl-{number}"
    bodies = {folder / "plain.json": as_json(request), folder / "plain.pb": request.SerializeToString()}
    for path, body in bodies.items():
        path.write_bytes(body)
    return list(bodies)


def serve() -> None:
    """Run rounds in this process as asked on the standard input: a number of repeats and the paths of bodies; print the
    seconds of processor time of each round.
    """
    from server.ingest.mapping.mapping_result import IngestWindow
    from server.ingest.mapping.span_mapping import map_spans
    from server.ingest.otlp.decode import decode_traces
    from server.ingest.pricing.price_book import PriceBook
    from server.ingest.writing.prepared_span import prepare_span

    prepare: Callable[..., Any] = partial(prepare_span, full_text=False)
    if "request" in inspect.signature(prepare_span).parameters:
        prepare = partial(prepare, request=1)
    window, prices, now = IngestWindow(max_age=_ANY_AGE, max_future=_ANY_AGE), PriceBook(), datetime.now(UTC)

    def read(body: bytes, content_type: str) -> int:
        batch = map_spans(decode_traces(body, content_type), now=now, window=window, pricing=prices)
        for record in batch.records:
            prepare("bench", record)
        return len(batch.records)

    # As a worker of the server does (server/process/garbage_collection.py): else a round measures when that ran.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    for line in sys.stdin:
        repeats, *paths = line.split()
        bodies = [(Path(path).read_bytes(), ENCODINGS[Path(path).suffix]) for path in paths]
        started = time.process_time()
        for _ in range(int(repeats)):
            spans = sum(read(body, content_type) for body, content_type in bodies)
        print(time.process_time() - started, spans, flush=True)


class Build:
    """A process that runs rounds with the code in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Build:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def run(self, repeats: int, bodies: Sequence[Path]) -> tuple[float, int]:
        """Return the processor time of a round in seconds, and the number of spans that one repeat stored."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process of a build has no pipes")
        print(repeats, *bodies, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if not answer:
            raise RuntimeError("the process of a build has ended: see its error above")
        return float(answer[0]), int(answer[1])


def compare(base: Build, ours: Build, name: str, bodies: Sequence[Path], rounds: int, seconds: float) -> float:
    """Print one line of the table; return the median ratio of speed."""
    for build in (base, ours):
        build.run(2, bodies)
    taken, _ = base.run(1, bodies)
    repeats = max(1, round(seconds / max(taken, 1e-6)))
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        # Each goes first in every other round.
        order = (base, ours) if number % 2 else (ours, base)
        found = {build: build.run(repeats, bodies) for build in order}
        times.append((found[base][0], found[ours][0]))
        spans = found[ours][1] * repeats
    ratio = statistics.median(theirs / mine for theirs, mine in times)
    best_base, best_ours = (min(column) for column in zip(*times, strict=True))
    print(
        f"| {name} | {best_base / spans * 1e6:.1f} | {best_ours / spans * 1e6:.1f} "
        f"| {best_base / best_ours:.3f} | {ratio:.3f} |",
        flush=True,
    )
    return ratio


def main(arguments: argparse.Namespace) -> None:
    """Start both builds, measure, print."""
    base_folder = arguments.base.resolve()
    if not (base_folder / "server/ingest").is_dir():
        raise SystemExit(f"{base_folder} is no checkout of this repository: it has no server/ingest")
    with (
        tempfile.TemporaryDirectory(prefix="observatory-bench-") as name,
        Build(base_folder) as base,
        Build(ROOT) as ours,
    ):
        plain = write_plain(Path(name))
        # The fixtures of the other build: of emitters that it does not know, it reads less.
        captured = [
            ROOT / path.relative_to(base_folder) for path in sorted((base_folder / FIXTURES).glob("*.traces.*"))
        ]
        kinds = {f"plain {path.suffix[1:]}": [path] for path in plain} | {
            f"captured {suffix[1:]}": [path for path in captured if path.suffix == suffix] for suffix in ENCODINGS
        }
        if arguments.each:
            kinds |= {path.name: [path] for path in captured}
        print("| bodies | base, µs a span | ours, µs a span | speed, best | speed, median |\n|---|---|---|---|---|")
        for label, bodies in kinds.items():
            compare(base, ours, label, bodies, arguments.rounds, arguments.seconds)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="folder of the other build")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--seconds", type=float, default=0.15, help="processor time of a round")
    parser.add_argument("--each", action="store_true", help="a line for each captured payload too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.base is None and not arguments.serve:
        parser.error("--base is needed: the folder of the build to compare with")
    return arguments


if __name__ == "__main__":
    chosen = parse_arguments()
    if chosen.serve:
        serve()
    else:
        main(chosen)
