"""Alert rules are asked on the history of tests/datasource/seed.py."""

from __future__ import annotations

from tests.datasource.seeded_database import database_template, seeded_history

__all__ = ["database_template", "seeded_history"]
