"""A project with spans whose values readers of files get wrong, and a client that may export them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.conftest import AppServer
from tests.span_factory import make_span, store

NOW = datetime.now(UTC).replace(microsecond=123456)
COUNT = 230
ODD_USERS = ("000123", "12345e67", "=1+1", "@SUM(1,2)", "+44 1", "-5", "NULL", "a,b", 'quo"te', "line\nbreak", "ü€😀")


def spans() -> list[Any]:
    """Return calls, three seconds apart, with prices of ten decimals and users that spreadsheets would compute."""
    return [
        make_span(
            ts=NOW - timedelta(seconds=3 * number),
            user_id=ODD_USERS[number % len(ODD_USERS)],
            session_id=None if number % 5 == 0 else f"s{number % 7}",
            total_tokens=None if number % 11 == 0 else 9_007_199_254_740_993 % (10**12) + number,
            prompt_cost_usd=Decimal("0.0000000001") * number,
            completion_cost_usd=Decimal("0.1000000003"),
            total_cost_usd=Decimal("0.1000000003") + Decimal("0.0000000001") * number,
            cost_source="reported",
            input_text=f"question {number}: why?",
            output_text=f"answer {number}",
            input_messages=[{"role": "user", "parts": [{"type": "text", "content": f"question {number}"}]}],
            tags=["a", "b,c"] if number % 2 else [],
            attributes={"n": number, "deep": {"x": [1, None]}},
        )
        for number in range(COUNT)
    ]


@pytest.fixture
async def api(app_server: AppServer, client: httpx.AsyncClient, project: Any, bearer: Any) -> httpx.AsyncClient:
    """A developer of alpha, where the spans are; beta has one span."""
    await project("alpha")
    await project("beta")
    await store(app_server.services, "alpha", spans())
    await store(app_server.services, "beta", make_span(user_id="of-beta", input_text="of beta"))
    client.headers.update(bearer("developer", ["alpha"]))
    return client
