"""The only exception of the embedded services: its text is for the person at the terminal."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded services cannot run; the message says why and what to do."""
