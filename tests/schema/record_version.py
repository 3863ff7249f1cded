"""``python -m tests.schema.record_version``: write down the migrations and the statements of this version.

Run when a version is released: until the next one, ``test_rolling_upgrade.py`` holds every later schema against them.
"""

from __future__ import annotations

import json
from pathlib import Path

from server.schema.migrate import load_migrations
from server.storage.statements import load_statements

PREVIOUS = Path(__file__).parent / "previous_version.json"


def main() -> None:
    """Write the file."""
    numbers = [item.number for item in load_migrations()]
    version = {"migrations": numbers, "statements": dict(sorted(load_statements().items()))}
    PREVIOUS.write_text(json.dumps(version, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
