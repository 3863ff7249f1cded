"""The first use of a large package stops nobody."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from server.fairness.late_import import imported

SLOW = "import time; began = time.monotonic(); time.sleep(0.5)"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that takes half a second to import."""
    name = f"slow_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


async def test_the_loop_goes_on_while_a_module_is_imported_and_all_get_the_same(package: str) -> None:
    tasks = [asyncio.create_task(imported(package)) for _ in range(50)]
    turns, longest, last = 0, 0.0, time.monotonic()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.005)
        now = time.monotonic()
        turns, longest, last = turns + 1, max(longest, now - last), now
    assert turns > 10
    assert longest < 0.4
    assert {id(task.result()) for task in tasks} == {id(sys.modules[package])}


async def test_who_goes_away_ends_nobody_s_import(package: str) -> None:
    gone, waits = (asyncio.create_task(imported(package)) for _ in range(2))
    await asyncio.sleep(0.05)
    gone.cancel()
    assert (await waits).__name__ == package


async def test_an_import_that_failed_is_tried_again(package: str, tmp_path: Path) -> None:
    file = tmp_path / f"{package}.py"
    file.write_text("raise ImportError('half installed')")
    with pytest.raises(ImportError):
        await imported(package)
    file.write_text("is_whole = True  # and of another size")
    assert (await imported(package)).is_whole
