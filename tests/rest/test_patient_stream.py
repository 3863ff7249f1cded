"""Log lines that nobody reads are dropped and counted; whoever writes them never waits."""

from __future__ import annotations

import os
import time

from server.telemetry import patient_stream
from server.telemetry.observations import LogLinesLost, subscribe
from server.telemetry.patient_stream import PatientStream


def test_a_full_pipe_loses_lines_and_never_holds_up_the_writer() -> None:
    counted: list[int] = []
    subscribe(lambda observation: counted.append(observation.count) if isinstance(observation, LogLinesLost) else None)
    reading, writing = os.pipe()
    stream = PatientStream(writing)
    line = "x" * 999 + "\n"
    written = patient_stream.MOST_CHARACTERS // 500
    started = time.monotonic()
    for _ in range(written // 2 + 500):
        stream.write(line)
    assert time.monotonic() - started < 2
    assert 0 < sum(counted) < written // 2 + 500
    told = b""
    while b"log lines lost" not in told:  # once somebody reads, the rest comes, then the number of those lost
        told = told[-200:] + os.read(reading, 65536)
    assert f'"count": {sum(counted)}'.encode() in told


def test_lines_come_out_in_order() -> None:
    reading, writing = os.pipe()
    stream = PatientStream(writing)
    for number in range(100):
        stream.write(f"{number}\n")
    data = b""
    while not data.endswith(b"99\n"):
        data += os.read(reading, 4096)
    assert data.decode().split() == [str(number) for number in range(100)]
