"""The order of the site: pages by folder, in the order of Diátaxis. Called by MkDocs before it builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDERS = {
    "How to": "how-to",
    "Clients": "clients",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
    "Benchmarks": "benchmarks",
}


def on_config(config: Any) -> Any:
    """Put every page of the folders into the navigation."""
    docs = Path(config["docs_dir"])
    folders = [
        {title: [f"{folder}/{page.name}" for page in sorted((docs / folder).glob("*.md"))]}
        for title, folder in FOLDERS.items()
    ]
    config["nav"] = [{"Home": "index.md"}, {"Tutorial": "quickstart.md"}, *folders, {"Glossary": "glossary.md"}]
    return config
