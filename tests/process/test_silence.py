"""A process that gets no processor is not taken for a frozen one; one that is stopped is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from server.process import silence
from server.process.silence import Silence

TICK = 0.25
WORKS = "while True: pass"
# It waits for the interpreter that a thread of its own holds, as an event loop does beside a long computation.
WAITS_FOR_A_THREAD = "import threading, time; threading.Thread(target=lambda: [sum(range(10**9)) for _ in 'x' * 99])"
WAITS_FOR_A_THREAD += ".start(); [time.sleep(0.01) for _ in range(10**6)]"

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not count waiting")


@contextmanager
def crowd(*programs: str) -> Iterator[list[int]]:
    """Start processes that share one processor."""
    processor = {min(os.sched_getaffinity(0))}
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", program], preexec_fn=lambda: os.sched_setaffinity(0, processor))
        for program in programs
    ]
    try:
        time.sleep(0.5)
        yield [child.pid for child in children]
    finally:
        for child in children:
            with suppress(ProcessLookupError):
                child.kill()
            child.wait()


def is_taken_for_frozen(pid: int, ticks: int) -> bool:
    """Return whether a process that never reports is taken for frozen within ``ticks`` checks."""
    found, then = Silence(pid), time.monotonic()
    for _ in range(ticks):
        time.sleep(TICK)
        now = time.monotonic()
        if found.is_frozen(now - then):
            return True
        then = now
    return False


@pytest.mark.parametrize("program", [WORKS, WAITS_FOR_A_THREAD])
def test_a_starved_process_is_not_frozen_and_a_stopped_one_is(program: str) -> None:
    with crowd(program, *[WORKS] * 7) as (pid, *_):
        assert not is_taken_for_frozen(pid, 10)
        os.kill(pid, signal.SIGSTOP)
        assert is_taken_for_frozen(pid, 8)


def test_a_process_that_is_blocked_is_frozen_however_much_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "LONGEST_TICKS", 5.0)
    with crowd(*[WORKS] * 8) as (pid, *_):
        assert is_taken_for_frozen(pid, 6), "a bound holds for the starved, too"


def test_a_word_ends_the_silence() -> None:
    found = Silence(os.getpid())
    assert not any(found.is_frozen(1) for _ in range(6))
    found.end()
    assert not any(found.is_frozen(1) for _ in range(6))
    assert found.is_frozen(1)


def test_where_the_system_does_not_tell_all_silence_counts() -> None:
    nobody = Silence(2**22 + 1)
    assert [nobody.is_frozen(1) for _ in range(7)] == [False] * 6 + [True]
