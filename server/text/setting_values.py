"""Declarations of settings, and their values from the text of an environment variable.

A parser raises a ValueError that says what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def text(raw: str) -> str:
    """Take any text."""
    return raw


def setting(env: str, default: Any, help: str, *, parse: Callable[[str], Any] = text, secret: bool = False) -> Any:
    """Declare one setting, as a field of a dataclass; ``help`` is a sentence for the reference page."""
    return field(default=default, metadata={"env": env, "help": help, "parse": parse, "secret": secret})


def masked(settings: Any) -> dict[str, str]:
    """Return effective values by environment variable, secrets as ``***``: the output of ``llm-observatory config``."""
    shown: dict[str, str] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.metadata["secret"]:
            text = "***" if value else ""
        elif isinstance(value, tuple):
            text = ",".join(value)
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif value is None:
            text = ""
        else:
            text = str(value)
        shown[item.metadata["env"]] = text
    return shown


def path(raw: str) -> Path:
    """Take a path; ``~`` is the home folder."""
    return Path(raw).expanduser()


def flag(raw: str) -> bool:
    """Take a truth value."""
    lowered = raw.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("expected true or false")


def names(raw: str) -> tuple[str, ...]:
    """Take a list, separated by commas."""
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def each(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of a list, separated by commas, whose parts ``parse`` takes."""

    def parse_all(raw: str) -> tuple[str, ...]:
        return tuple(parse(part) for part in names(raw))

    return parse_all


def between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers within ``low`` and ``high``, both included."""

    def parse(raw: str) -> float:
        expected = f"expected a number from {low:g} to {high:g}"
        try:
            value = float(raw)
        except ValueError as error:
            raise ValueError(expected) from error
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within ``low`` and ``high``, both included."""

    def parse(raw: str) -> int:
        expected = f"expected a whole number from {low} to {high}"
        try:
            value = int(raw)
        except ValueError as error:
            raise ValueError(expected) from error
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes only the given words."""

    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return raw

    return parse


def address(*schemes: str) -> Callable[[str], str]:
    """Return a parser of addresses that begin with one of ``schemes``; the driver checks the rest."""

    def parse(raw: str) -> str:
        if not raw.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"expected an address that begins with {schemes[0]}://")
        return raw

    return parse


postgresql_address = address("postgresql", "postgres")
"""Takes the address of a PostgreSQL."""


def redis_address(raw: str) -> str:
    """Take the address of a Redis: one server, the master of some Sentinels, or a Cluster."""
    kinds = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
    parts = urlsplit(address(*kinds)(raw))
    if "+" in parts.scheme:
        servers = parts.netloc.rpartition("@")[2].split(",")
        if not all(re.fullmatch(r"([^\s:\[\]]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?", server) for server in servers):
            raise ValueError("expected a list of servers, as host:port,host:port")
    if parts.scheme.endswith("+sentinel") and not re.fullmatch(r"/[^/]+(/\d+)?", parts.path):
        raise ValueError("expected the name of the master at the end, as redis+sentinel://host:26379/mymaster")
    return raw


def storage_address(raw: str) -> str:
    """Take the address of a bucket or a directory, or nothing."""
    return address("s3", "file")(raw) if raw else raw
