"""How long a client may take for what it sends and for what it is sent.

Each byte of a slow client would put off a time-out that counts from the last one; so heads have a deadline, bodies and
answers a least rate.
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
"""So long the rest of a refused body is received and thrown away, for the client to see the answer before the end."""
CHECK_SECONDS: Final = 2.5


def body_is_overdue(elapsed: float, received: int) -> bool:
    """Return whether a body of which ``received`` bytes came in ``elapsed`` seconds comes too slowly."""
    return elapsed > BODY_SECONDS or (elapsed > BODY_GRACE_SECONDS and received < elapsed * LEAST_BODY_RATE)


def answer_is_overdue(elapsed: float, size: int) -> bool:
    """Return whether ``size`` bytes have waited too long for their client after ``elapsed`` seconds."""
    return elapsed > ANSWER_GRACE_SECONDS + size / LEAST_ANSWER_RATE
