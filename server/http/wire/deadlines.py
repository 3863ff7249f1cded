"""Deadlines for clients, for sending a request and for receiving its answer.

A time-out that counts from the last byte never expires while a slow client sends one now and then. So a head has a
deadline, and a body and an answer have a least rate.
"""

from __future__ import annotations

from typing import Final

HEAD_SECONDS: Final = 15.0
"""From the first byte of a head to its end; also from the connection to its first byte."""
BODY_GRACE_SECONDS: Final = 10.0
LEAST_BODY_RATE: Final = 4096
"""Bytes a second, on average since the head, once the grace is over."""
BODY_SECONDS: Final = 120.0
ANSWER_GRACE_SECONDS: Final = 10.0
LEAST_ANSWER_RATE: Final = 16 * 1024
"""Bytes a second at which an answer has to be taken."""
LINGER_SECONDS: Final = 2.0
"""Seconds for which the rest of a refused body is received and thrown away, so that the client sees the answer before
the connection ends."""
CHECK_SECONDS: Final = 2.5


def body_is_overdue(elapsed: float, received: int) -> bool:
    """Return whether a body is too slow, with ``received`` bytes after ``elapsed`` seconds."""
    return elapsed > BODY_SECONDS or (elapsed > BODY_GRACE_SECONDS and received < elapsed * LEAST_BODY_RATE)


def answer_is_overdue(elapsed: float, size: int) -> bool:
    """Return whether ``size`` bytes have waited too long for their client after ``elapsed`` seconds."""
    return elapsed > ANSWER_GRACE_SECONDS + size / LEAST_ANSWER_RATE
