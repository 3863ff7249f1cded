"""The page on caching tells how stale each thing can be; the figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasource.json.panel_engine import LONGEST_TICK_SECONDS
from server.access import remote_keys, revocations, verified_cache
from server.ingest import project_settings
from server.ingest.pricing import price_books
from server.queries.records import project_list
from server.rest import list_memory

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/explanation/caching.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| [^|]+ \| `([a-z_/]+\.py)` \| ([^|]*) \|", PAGE, re.MULTILINE))


def test_every_row_names_a_module_that_exists() -> None:
    assert len(ROWS) >= 11
    assert not [name for name in ROWS if not (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("server/rest/list_memory.py", f"{list_memory.KEPT_SECONDS:g} second"),
        ("datasource/json/panel_engine.py", f"1 to {LONGEST_TICK_SECONDS} seconds"),
        ("server/queries/records/project_list.py", f"{project_list.FRESH_SECONDS:g} seconds"),
        ("server/access/verified_cache.py", f"{verified_cache.TRUST_SECONDS:g} seconds"),
        ("server/access/revocations.py", f"{revocations.LOOK_SECONDS:g} seconds"),
        ("server/access/remote_keys.py", f"{remote_keys.FRESH_SECONDS / 3600:g} hour"),
        ("server/access/remote_keys.py", f"{remote_keys.KEPT_SECONDS / 3600:g} hours"),
        ("server/ingest/project_settings.py", f"{project_settings.FRESH_SECONDS:g} seconds"),
        ("server/ingest/pricing/price_books.py", f"{price_books.FRESH_SECONDS:g} seconds"),
    ],
)
def test_the_page_tells_the_figures_of_the_code(module: str, words: str) -> None:
    assert words in ROWS[module]


# They keep state in order of use, not answers that could be stale.
STATE = {
    "server/rate_limit/token_bucket.py",
    "server/fairness/fair_queue.py",
    "server/fairness/presence.py",
    "server/fairness/tenants.py",
}


def test_the_page_lists_every_module_that_keeps_entries_in_order_of_use() -> None:
    keeping = {
        path.relative_to(ROOT).as_posix()
        for package in ("server", "datasource")
        for path in (ROOT / package).rglob("*.py")
        if "OrderedDict" in path.read_text(encoding="utf-8")
    }
    assert keeping - STATE <= ROWS.keys()
