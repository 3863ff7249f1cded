"""These tests need a cluster: ``make test-citus``."""

from __future__ import annotations

import pytest

from tests.citus.citus_cluster import PROGRAMS, SWITCH, is_on_citus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not is_on_citus() and "/citus/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=f"needs {PROGRAMS} and {SWITCH}=citus: make test-citus"))
