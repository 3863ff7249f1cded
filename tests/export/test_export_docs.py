"""docs/reference/exports.md lists formats, parameters and problems."""

from __future__ import annotations

import re
from pathlib import Path

from server.export.formats import FORMATS
from server.export.pages import RETRY_SECONDS
from server.rest.export_request import EXPORT_PARAMETERS, NOT_TAKEN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "exports.md").read_text(encoding="utf-8")


def test_the_page_has_each_format_with_its_sentence() -> None:
    rows = dict(re.findall(r"^\| `(ndjson|csv|parquet|otlp)` \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert rows == {name: kind.sentence for name, kind in FORMATS.items()}


def test_the_page_has_each_parameter_and_what_is_not_taken() -> None:
    for name in (*EXPORT_PARAMETERS, *NOT_TAKEN):
        assert f"`{name}`" in PAGE
    assert f"more than {round(sum(RETRY_SECONDS))} seconds" in PAGE
