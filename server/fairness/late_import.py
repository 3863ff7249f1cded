"""Modules that are imported at their first use, beside the event loop.

An import that takes seconds, as those of whole SDKs do, would stop the loop for everybody: on a busy machine for so
long that the supervisor takes the process for a frozen one. In a thread it shares the interpreter with the loop.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from types import ModuleType
from weakref import WeakKeyDictionary

_imports: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Task[ModuleType]]] = WeakKeyDictionary()


async def imported(name: str) -> ModuleType:
    """Return the module ``name``. All who ask for it meanwhile wait for the same import; one that failed is repeated.

    A cancelled caller does not end the import: the thread continues.
    """
    imports = _imports.setdefault(asyncio.get_running_loop(), {})
    task = imports.get(name)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        task = imports[name] = asyncio.create_task(asyncio.to_thread(import_module, name))
    return task.result() if task.done() else await asyncio.shield(task)
