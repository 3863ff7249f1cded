"""A real OpenAI client under a published instrumentation sends to the real server, and REST finds the call."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.instrumentations.vendor_stub import ANSWER, OPENAI_USAGE, vendor_stub

DRIVER = Path(__file__).parent.parent / "instrumentations" / "drive.py"
Bearer = Callable[..., dict[str, str]]


# By default the instrumentation keeps messages off the spans; with the latest conventions they are on them.
@pytest.mark.parametrize(("scenario", "has_content"), [("openai_v2", False), ("openai_v2_latest", True)])
async def test_the_trace_of_a_real_openai_call_is_in_the_answer(
    scenario: str,
    has_content: bool,
    client: httpx.AsyncClient,
    app_server: AppServer,
    project: ProjectMaker,
    bearer: Bearer,
) -> None:
    await project("alpha")
    headers = bearer("developer", ["alpha"])
    with vendor_stub() as vendor_url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(DRIVER),
            scenario,
            vendor_url,
            app_server.base_url,
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={headers['Authorization'].replace(' ', '%20')}",
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    answer = await client.get("/api/v1/traces?operation_type=chat&status=success&fields=all", headers=headers)
    rows = answer.json()["data"]
    assert rows, output.decode()
    row = rows[0]
    assert row["provider"] == "openai"
    assert row["service_name"] == "weather-bot"
    assert row["prompt_tokens"] == OPENAI_USAGE["prompt_tokens"]
    assert row["completion_tokens"] == OPENAI_USAGE["completion_tokens"]
    assert row["total_cost_usd"] > 0
    assert row["cost_source"] == "computed"
    assert row["dialect"].startswith("genai")
    failed = await client.get("/api/v1/traces?status=error", headers=headers)
    assert failed.json()["data"], "the failed call is there, too"
    detail = await client.get(f"/api/v1/traces/{row['trace_id']}", headers=headers)
    assert detail.json()["data"]["totals"]["total_cost_usd"] == pytest.approx(row["total_cost_usd"])
    texts = [item["output_text"] or "" for item in rows]
    assert any(ANSWER in text for text in texts) == has_content
