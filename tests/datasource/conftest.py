"""Tests of the data source run on a database that holds the history of seed.py."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.datasource.grafana_client import Grafana
from tests.datasource.seed import ACME, Seed
from tests.datasource.seeded_database import database_template, seeded_history

__all__ = ["database_template", "seeded_history"]


@pytest.fixture
def grafana(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], seeded_history: Seed) -> Grafana:
    """A data source of Grafana whose credential reads the project acme."""
    return Grafana(client, bearer("viewer", [ACME]), seeded_history)
