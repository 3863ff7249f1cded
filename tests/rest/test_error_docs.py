"""docs/reference/errors.md lists the catalogue, the pages list the parameters."""

from __future__ import annotations

import re
from pathlib import Path

from server.errors import catalogue
from server.http.body_limit import BODY_LIMITS
from server.queries.lists.session_reader import SESSIONS, USERS
from server.queries.lists.span_tree import Placement
from server.queries.lists.trace_tree import MAX_TREE_SPANS
from server.queries.metrics.facet_reader import MOST_ROWS, MOST_WIDE_ROWS
from server.rest.openapi.operations import OPERATIONS

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_error_code_stands_in_its_page_with_status_and_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+?)\. \| (.+) \|$", page("errors.md"), re.MULTILINE)
    documented = {code: (int(status), title) for code, status, title, _ in rows}
    kinds = [kind for kind in catalogue() if kind.__module__ == "server.errors"]
    assert documented == {kind.code: (kind.status, kind.title()) for kind in kinds}
    assert all(advice.strip() for *_, advice in rows)


def test_every_body_limit_stands_in_the_page() -> None:
    for prefix, _ in BODY_LIMITS:
        assert f"`{prefix.rstrip('/')}`" in page("errors.md")


def test_parameters_and_values_stand_in_their_pages() -> None:
    for name, operations in {
        "trace-detail.md": ("trace_detail.get_trace", "trace_detail.get_span"),
        "sessions-and-users.md": ("sessions.list_sessions", "sessions.list_users", "sessions.get_session"),
    }.items():
        for operation in operations:
            for parameter in OPERATIONS[operation].parameters:
                assert f"`{parameter['name']}`" in page(name), (name, parameter["name"])
    for kind in (SESSIONS, USERS):
        for key in kind.sort_keys:
            assert f"`{key}`" in page("sessions-and-users.md")
    for placement in Placement:
        assert f"| `{placement.value}` |" in page("trace-detail.md")
    assert f"{MAX_TREE_SPANS:,} spans" in page("trace-detail.md")
    assert f"{MOST_ROWS:,} are ({MOST_WIDE_ROWS:,} for attributes)" in page("sessions-and-users.md")
