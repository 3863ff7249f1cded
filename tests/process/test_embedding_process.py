"""The process that makes vectors: beside the servers, replaced when it dies, gone with them, and never in their way."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.conftest import ProjectMaker
from tests.process.conftest import Starter
from tests.process.program import children

PATIENCE = 120.0


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


async def test_the_offline_model_answers_and_comes_back(
    start: Starter, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("shop")
    server = start(OBSERVATORY_SEMANTIC="offline", EMBEDDINGS_TIMEOUT="60")
    headers = bearer("developer", ["shop"])
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "chat",
        "startTimeUnixNano": str(time.time_ns() - 10**9),
        "endTimeUnixNano": str(time.time_ns()),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.prompt", "value": {"stringValue": "Ich will mein Geld zurück!"}},
        ],
    }
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=90) as client:
        sent = client.post("/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
        assert sent.status_code == 200, sent.text

        def found() -> bool:
            answer = client.get("/api/v1/traces", params={"meaning": "refund", "from": "now-1h"})
            assert answer.status_code in {200, 503}, answer.text
            return answer.status_code == 200 and [row["span_id"] for row in answer.json()["data"]] == ["cd" * 8]

        wait_for(found)
        # Noted just after the vector is stored.
        wait_for(
            lambda: re.search(r"^observatory_embedded_spans_total [1-9]", client.get("/metrics").text, re.MULTILINE)
        )

        def companion() -> int | None:
            for pid in children(server.process.pid):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"embedding_process" in file.read():
                        return pid
            return None

        first = wait_for(companion)
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, server.worker_pids()[0])
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: companion() not in {None, first})
        wait_for(found)
    assert server.stop() == 0


async def test_a_misconfigured_embedder_leaves_the_server_alone(
    start: Starter, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("shop")
    server = start(OBSERVATORY_SEMANTIC="endpoint")
    server.wait_for("EMBEDDINGS_URL is not set")
    with httpx.Client(base_url=server.base_url, headers=bearer("developer", ["shop"]), timeout=30) as client:
        assert client.get("/api/v1/traces", params={"meaning": "refund"}).status_code == 503
        assert client.get("/api/v1/traces", params={"search": "refund"}).status_code == 200
