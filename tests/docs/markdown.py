"""Reads the project's Markdown pages: their links, headings and examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INDENTED_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end of generated part -->", re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def examples(self, language: str) -> list[str]:
        """Return the fenced blocks of a language."""
        return [body for found, body in _FENCE.findall(self.text) if found == language]

    def links(self) -> list[str]:
        """Return the targets of links outside of examples."""
        return _LINK.findall(_FENCE.sub("", self.text))

    def without_generated_parts_and_examples(self) -> str:
        """Return the text that people wrote as prose."""
        return _GENERATED.sub("", _INDENTED_FENCE.sub("", self.text))

    def anchors(self) -> set[str]:
        """Return the anchors that ``#…`` can point at, by the rule of the usual renderers."""
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in _HEADING.findall(_FENCE.sub("", self.text))
        }


def pages() -> list[Page]:
    """Return every page of the project."""
    return [Page(path) for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])]
