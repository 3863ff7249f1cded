"""What both clients share: addresses, parameters, retries, the envelope of answers. Nothing here sends anything."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from llm_observatory_client.errors import ApiError, error_of, retry_after

Row = dict[str, Any]
Value = str | int | float | bool | None | Iterable[str | int | float]

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
SAFE_METHODS = frozenset({"GET", "QUERY"})
SAFE_POSTS = ("/api/v1/traces/search", "/api/v1/metrics/query")
"""Requests by POST that change nothing."""


@dataclass(frozen=True)
class Page:
    """One page of a list. ``cursor`` is None on the last one."""

    rows: list[Row]
    cursor: str | None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Retries:
    """How often and when to repeat a request. Waits double; what the server says with ``Retry-After`` goes before."""

    attempts: int = 4
    first_wait: float = 0.25
    longest_wait: float = 30.0

    def wait(self, attempt: int, headers: Mapping[str, str]) -> float | None:
        """Return the seconds before the next attempt; None: give up. ``attempt`` counts from 1."""
        if attempt >= self.attempts:
            return None
        told = retry_after(headers)
        if told is not None:
            return told if told <= self.longest_wait else None
        longest: float = min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, protects nothing


def headers_of(token: str) -> dict[str, str]:
    """Return the headers of every request. Raises ValueError for a token that no header can carry."""
    token = token.strip()  # of the line break of a file
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token: is empty, or has characters that a token never has")
    return {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "llm-observatory-client"}


def parameters(given: Mapping[str, Value]) -> httpx.QueryParams:
    """Return query parameters: a list is repeated, None is left out. A name that Python reserves may end with an
    underscore: ``from_``.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        name = name.removesuffix("_")
        if value is None:
            continue
        if isinstance(value, bool):
            pairs.append((name, "true" if value else "false"))
        elif isinstance(value, str | int | float):
            pairs.append((name, str(value)))
        else:
            pairs += [(name, str(item)) for item in value]
    return httpx.QueryParams(tuple(pairs))


def may_repeat(method: str, path: str) -> bool:
    """Return whether sending the request twice does what sending it once does."""
    return method in SAFE_METHODS or path in SAFE_POSTS


def segment(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")


def document_of(response: httpx.Response) -> Any:
    """Return the JSON of an answer. Raises a class of ApiError for an error."""
    if response.status_code >= 400:
        raise api_error(response.status_code, response.content, response.headers)
    return json.loads(response.content) if response.content else {}


def api_error(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return the exception for an error, whatever its body is."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {"detail": body[:200].decode(errors="replace")}
    return error_of(status, problem if isinstance(problem, dict) else {}, headers)


def page_of(answer: Mapping[str, Any]) -> Page:
    """Return the page in an answer's envelope."""
    return Page(answer["data"], answer.get("next_cursor"), answer.get("meta", {}))
