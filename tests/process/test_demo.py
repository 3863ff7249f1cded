"""``llm-observatory demo``: fills, answers, stops cleanly, and finds its data again."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path

import httpx

from tests.process.program import Program, descendants, wait_until_gone

SMALL = ["demo", "--days", "2", "--traces", "60", "--port", "0"]


def printed_token(output: str) -> str:
    """Return the access token in the printed example."""
    match = re.search(r"TOKEN=(\S+)", output)
    assert match is not None
    return match[1]


def trace_ids(server: Program, token: str) -> set[str]:
    """Return the traces of the past, without live ones."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        answer = httpx.get(
            f"{server.base_url}/api/v1/traces",
            params={"limit": 1000, **({"cursor": cursor} if cursor else {})},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found |= {row["trace_id"] for row in page["data"] if not (row["session_id"] or "").startswith("live-")}
        cursor = page["pagination"]["cursor"]
        if not page["pagination"]["has_more"]:
            return found


def test_the_demo_fills_answers_stops_and_finds_its_data_again(private_folder: Path) -> None:
    settings = {"OBSERVATORY_DATA_DIR": str(private_folder / "data")}
    with Program(private_folder, SMALL, settings) as demo:
        demo.wait_until_serving()
        output = demo.wait_for("Ctrl-C stops everything", 60)
        token = printed_token(output)

        command = re.search(r"curl .*limit=5\"", output)
        assert command is not None
        words = [word.replace("$TOKEN", token) for word in shlex.split(command[0])]
        shown = subprocess.run(["curl", "-sS", "--fail", *words[1:]], capture_output=True, text=True, check=True)
        assert '"status":"success"' in shown.stdout

        first = trace_ids(demo, token)
        assert len(first) > 20
        grafana = re.search(r"Authorization = (Bearer \S+)", output)
        assert grafana is not None
        answer = httpx.get(f"{demo.base_url}/grafana", headers={"Authorization": grafana[1]})
        assert answer.status_code == 200, answer.text

        # Its analytics are open to everybody, its traces are not.
        assert httpx.get(f"{demo.base_url}/api/v1/analytics/costs").status_code == 200
        assert httpx.get(f"{demo.base_url}/api/v1/traces").status_code == 401

        below = descendants(demo.process.pid)
        assert demo.stop(signal.SIGINT) == 0
        wait_until_gone(below)

    with Program(private_folder, [*SMALL, "--no-live"], settings) as demo:
        demo.wait_until_serving()
        again = demo.wait_for("Ctrl-C stops everything", 60)
        found = trace_ids(demo, printed_token(again))
        assert first <= found
        assert len(found) <= len(first) + 5, "a second start sends what is missing and nothing twice"
        assert re.search(r"Authorization = (Bearer \S+)", again)[1] == grafana[1]  # type: ignore[index]
        assert demo.stop(signal.SIGTERM) == 0
