"""The program on the page of each sender is run as it is, against a stub of the vendor and the real server.

Run by ``make test-senders``. The spans that arrive are compared with the table of docs/how-to/senders/senders.json.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.clients.senders.environments import ROOT, command_of
from tests.conftest import AppServer, ProjectMaker
from tests.docs.sender_pages import example, senders, variables

RUN = [sender for sender in senders() if "python" in sender or "node" in sender]
QUESTION, ANSWER = "How is the weather in Paris?", "It is sunny in Paris."
SECONDS = 600
FIELDS = (
    "model,prompt_tokens,completion_tokens,cached_tokens,total_cost_usd,cost_source,session_id,user_id,"
    "input_text,output_text,operation_type,service_name,span_name"
)


@pytest.fixture
async def vendor() -> AsyncIterator[str]:
    """The address of a stub of the vendors' APIs."""
    command = (sys.executable, "-m", "tests.instrumentations.vendor_stub")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    process.terminate()
    await process.wait()


def environment(vendor: str) -> dict[str, str]:
    """Return the variables by which the vendors' clients find the stub, as they would find a proxy."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "NO_PROXY": "*",
        "OPENAI_API_KEY": "stub",
        "OPENAI_BASE_URL": f"{vendor}/v1",
        "OPENAI_API_BASE": f"{vendor}/v1",
        "ANTHROPIC_API_KEY": "stub",
        "ANTHROPIC_BASE_URL": vendor,
        "GOOGLE_API_KEY": "stub",
        "GOOGLE_GEMINI_BASE_URL": vendor,
        "AWS_ACCESS_KEY_ID": "stub",
        "AWS_SECRET_ACCESS_KEY": "stub",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": vendor,
        "AZURE_OPENAI_API_KEY": "stub",
        "AZURE_OPENAI_ENDPOINT": vendor,
        "OPENAI_API_VERSION": "2025-04-01-preview",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("sender", RUN, ids=lambda sender: sender["name"])
async def test_what_the_page_says_arrives(
    sender: dict[str, Any], app_server: AppServer, vendor: str, project: ProjectMaker, token: Callable[..., str]
) -> None:
    await project("shop")
    key = token("developer", ["shop"])
    program = example(sender)[1]
    command = await asyncio.to_thread(command_of, sender, program)
    told = {
        name: value.replace("http://127.0.0.1:8080", app_server.base_url).replace("$API_KEY", key)
        for name, value in variables(sender).items()
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**environment(vendor), "API_KEY": key, **told},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, output[-3000:]
    rows = await spans(app_server, key)
    calls = [row for row in rows if row["prompt_tokens"] is not None]
    assert len(calls) >= 1, (output[-3000:], [row["span_name"] for row in rows])
    assert seen(rows, calls) == sender["arrives"], rows
    assert re.search("weather-bot", " ".join(str(row["service_name"]) for row in rows))


async def spans(server: AppServer, key: str) -> list[dict[str, Any]]:
    """Return the spans that arrived."""
    async with httpx.AsyncClient(base_url=server.base_url, headers={"Authorization": f"Bearer {key}"}) as http:
        parameters: dict[str, str | int] = {"limit": 200, "from": "now-1h", "fields": FIELDS}
        answer = await http.get("/api/v1/traces", params=parameters)
        calls = await http.get("/api/v1/traces", params={**parameters, "is_generation": "true"})
    generations = {str(row) for row in calls.json()["data"]}
    rows: list[dict[str, Any]] = answer.json()["data"]
    return [row if str(row) in generations else {**row, "prompt_tokens": None} for row in rows]


def seen(rows: list[dict[str, Any]], calls: list[dict[str, Any]]) -> dict[str, bool]:
    """Return which columns of the table of senders have data: tokens and money of the calls, the rest anywhere in the
    trace.
    """
    texts = [f"{row['input_text'] or ''} {row['output_text'] or ''}" for row in rows]
    return {
        "tokens": all(call["prompt_tokens"] and call["completion_tokens"] for call in calls),
        "cached": all(call["cached_tokens"] for call in calls),
        "cost": all(call["total_cost_usd"] for call in calls),
        "content": any(QUESTION in text for text in texts) and any(ANSWER in text for text in texts),
        "session": any(row["session_id"] for row in rows),
        "user": any(row["user_id"] for row in rows),
    }
