"""The history of seed.py, asked through the Prometheus API."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.datasource.seed import ACME, Seed


@pytest.fixture
def prometheus(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], seeded_history: Seed
) -> PrometheusClient:
    """A credential that reads the project acme."""
    return PrometheusClient(client, bearer("viewer", [ACME]))
