"""Live traces after the history is sent: they continue it at the same rate."""

from __future__ import annotations

import heapq
import itertools
import threading
import time

from server.demo.demo_span import DemoTrace
from server.demo.schedule import Schedule
from server.demo.sender import Sender

LOOK_SECONDS = 0.5


def trickle(sender: Sender, schedule: Schedule, stopping: threading.Event) -> None:
    """Send new visits as time passes, each trace when it has ended; return when ``stopping`` is set.

    :raises DemoError: the server no longer accepts them.
    """
    number = itertools.count()
    waiting: list[tuple[int, int, DemoTrace]] = []
    visits = schedule.upcoming()
    start, traces = next(visits)
    while not stopping.wait(LOOK_SECONDS):
        now = time.time()
        while start.timestamp() <= now:
            for trace in traces:
                heapq.heappush(waiting, (max(span.end_ns for span in trace.spans), next(number), trace))
            start, traces = next(visits)
        ended = []
        while waiting and waiting[0][0] <= now * 1e9:
            ended.append(heapq.heappop(waiting)[2])
        sender.send(ended)
