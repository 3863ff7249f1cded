"""Tests of the data source run on a database that holds the history of seed.py."""

from __future__ import annotations

from tests.datasource.seeded_database import database_template, seeded_history

__all__ = ["database_template", "seeded_history"]
