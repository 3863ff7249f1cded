"""Log lines that nobody reads are dropped and counted; whoever writes them never waits."""

from __future__ import annotations

import json
import os

from server.telemetry import patient_stream
from server.telemetry.observations import LogLinesLost, subscribe
from server.telemetry.patient_stream import PatientStream


def test_a_full_pipe_loses_lines_and_never_holds_up_the_writer() -> None:
    counted: list[int] = []
    subscribe(lambda observation: counted.append(observation.count) if isinstance(observation, LogLinesLost) else None)
    reading, writing = os.pipe()
    stream = PatientStream(writing)
    line = "x" * 999 + "\n"
    written = patient_stream.MOST_CHARACTERS // len(line) + 500
    for _ in range(written):  # that this loop ends is the proof: the pipe holds 64 lines, and nobody reads it
        stream.write(line)
    assert 0 < sum(counted) < written
    told = 0
    with os.fdopen(reading) as lines:
        while told < sum(counted):  # the thread may have begun between two losses, and then tells of them in two lines
            text = lines.readline()
            told += json.loads(text)["count"] if text.startswith("{") else 0
    assert told == sum(counted)


def test_lines_come_out_in_order() -> None:
    reading, writing = os.pipe()
    stream = PatientStream(writing)
    for number in range(100):
        stream.write(f"{number}\n")
    data = b""
    while not data.endswith(b"99\n"):
        data += os.read(reading, 4096)
    assert data.decode().split() == [str(number) for number in range(100)]
