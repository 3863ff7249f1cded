"""docs/how-to/agents.md lists the tools and their bounds."""

from __future__ import annotations

import re
from pathlib import Path

from server.mcp.tools import CONTENT_PAGE, DEFAULT_BUDGET, LARGEST_BUDGET, TOOLS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "agents.md").read_text(encoding="utf-8")


def test_the_page_has_each_tool_with_its_sentence() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| `", PAGE, re.MULTILINE))
    assert rows == {name: tool.sentence for name, tool in TOOLS.items()}


def test_the_page_has_the_bounds() -> None:
    assert f"(default {DEFAULT_BUDGET}, at most {LARGEST_BUDGET})" in PAGE
    assert f"pages of {CONTENT_PAGE} characters" in PAGE
