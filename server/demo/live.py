"""The trickle of new traces once the past is filled."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from datetime import UTC, datetime
from random import Random

from server.demo.demo_span import DemoTrace
from server.demo.scenarios import make_visit
from server.demo.sender import Sender

MEAN_SECONDS_BETWEEN_VISITS = 6.0
LOOK_SECONDS = 0.5


def trickle(sender: Sender, stopping: threading.Event, rng: Random | None = None) -> None:
    """Make new visits as time passes, and send each trace when it has ended; return when ``stopping`` is set.

    :raises DemoError: the server does not accept them any more.
    """
    rng = rng or Random()  # noqa: S311 - a believable story, not a secret
    number = itertools.count()
    waiting: list[tuple[int, int, DemoTrace]] = []
    next_visit = time.time()
    while not stopping.wait(LOOK_SECONDS):
        now = time.time()
        if now >= next_visit:
            next_visit = now + rng.expovariate(1 / MEAN_SECONDS_BETWEEN_VISITS)
            session = f"live-{rng.getrandbits(40):010x}"
            for trace in make_visit(rng, datetime.fromtimestamp(now, UTC), session):
                heapq.heappush(waiting, (max(span.end_ns for span in trace.spans), next(number), trace))
        ended = []
        while waiting and waiting[0][0] <= now * 1e9:
            ended.append(heapq.heappop(waiting)[2])
        sender.send(ended)
