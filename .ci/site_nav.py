"""The order of the site: pages by folder, in the order of Diátaxis. Called by MkDocs before it builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDERS = {
    "How to": "how-to",
    "Send from": "how-to/senders",
    "Clients": "clients",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
    "Benchmarks": "benchmarks",
}


def index_first(page: Path) -> tuple[bool, str]:
    """Return what sorts the page of a folder before its other pages."""
    return page.stem != "index", page.name


def on_config(config: Any) -> Any:
    """Put every page of the folders into the navigation."""
    docs = Path(config["docs_dir"])
    folders = [
        {title: [f"{folder}/{page.name}" for page in sorted((docs / folder).glob("*.md"), key=index_first)]}
        for title, folder in FOLDERS.items()
    ]
    config["nav"] = [{"Home": "index.md"}, {"Tutorial": "quickstart.md"}, *folders, {"Glossary": "glossary.md"}]
    return config
