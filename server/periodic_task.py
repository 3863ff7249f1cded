"""Background work that is done again and again: one way to start, to stop and to fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from server.errors import ApiError, InternalError
from server.fairness.party import SERVER, Party, context_of
from server.telemetry.observations import BackgroundWorkFailed, observe

logger: Final = logging.getLogger("observatory.background")


class PeriodicTask:
    """Calls ``run`` in a loop of its own, from :meth:`start` to :meth:`stop`.

    A run that fails never ends the loop: it is observed as :class:`BackgroundWorkFailed` and tried again.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[object]],
        *,
        pause: float,
        first_pause: float | None = None,
        pause_after_failure: float | None = None,
        next_pause: Callable[[float], float] | None = None,
        runs_at_stop: bool = False,
    ) -> None:
        """``name`` labels logs and metrics. ``pause``: seconds between two runs; before the first and after a failed
        one the same, unless told. ``next_pause`` works the pause out from the seconds that the run took.
        ``runs_at_stop``: once more at the end, for what has collected since."""
        self.name = name
        self._run = run
        self._pause = pause
        self._first_pause = pause if first_pause is None else first_pause
        self._pause_after_failure = pause_after_failure
        self._next_pause = next_pause
        self._runs_at_stop = runs_at_stop
        self._task: asyncio.Task[None] | None = None

    def start(self, party: Party = SERVER) -> None:
        """Begin, unless begun. The work is counted for ``party``, whichever request happens to begin it."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name=self.name, context=context_of(party))

    async def stop(self) -> None:
        """End; a run in the middle is cancelled, and the database rolls back what it had begun."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._runs_at_stop:
            await self.run_once()

    async def run_once(self) -> bool:
        """Run now, in the caller's time; return whether that succeeded. A failure is observed, not raised."""
        try:
            await self._run()
        except ApiError as error:
            observe(BackgroundWorkFailed(task=self.name, cause=error.code))
        except Exception:
            # A mistake of ours. Ending the loop would turn one bad row into work that is never done again.
            logger.exception("background work failed", extra={"task": self.name})
            observe(BackgroundWorkFailed(task=self.name, cause=InternalError.code))
        else:
            return True
        return False

    async def _loop(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = self._first_pause
        while True:
            await asyncio.sleep(pause)
            started = clock()
            succeeded = await self.run_once()
            pause = self._pause if self._next_pause is None else self._next_pause(clock() - started)
            if not succeeded and self._pause_after_failure is not None:
                pause = self._pause_after_failure
