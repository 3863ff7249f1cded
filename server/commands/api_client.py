"""Access to a running server, for the commands that read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from server.access.api_key import is_api_key
from server.terminal.output import CommandFailed

Params = list[tuple[str, str | int | float | bool | None]]
"""Query parameters, as httpx takes them."""

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""Seconds after which a silent server counts as gone; heartbeats and pages come more often."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server's address, a credential for it, and the project to read."""

    base_url: str
    token: str
    project: str

    def client(self) -> httpx.Client:
        """Return an HTTP client with the credential."""
        name, value = ("X-API-Key", self.token) if is_api_key(self.token) else ("Authorization", f"Bearer {self.token}")
        return httpx.Client(
            base_url=self.base_url,
            headers={name: value},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )

    def params(self, filters: Sequence[str]) -> Params:
        """Return ``filters`` (``NAME=VALUE``) and the project as query parameters.

        :raises CommandFailed: a filter has no value.
        """
        found: Params = [("project_id", self.project)]
        for item in filters:
            name, equals, value = item.partition("=")
            if not (name and equals and value):
                raise CommandFailed(f"{item!r} is not NAME=VALUE")
            found.append((name, value))
        return found


def refusal(answer: httpx.Response) -> CommandFailed:
    """Return the error for ``answer``, which was read and is not a success, in the server's words."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    return CommandFailed(f"the server answered {answer.status_code}: {detail}")


def unreachable(client: httpx.Client, error: httpx.TransportError) -> CommandFailed:
    """Return the error for a server that gave no answer at all."""
    address = str(client.base_url).rstrip("/")
    return CommandFailed(f"no answer from {address} ({error or type(error).__name__}): does it run there? See --url")
