"""Every target becomes frames in Grafana's own code (@grafana/data 12.4 and 13.1), with the types we declared.

Not part of ``make test``, because it needs Node: ``make test-grafana-data`` installs the packages and runs it,
and ``.ci/run`` calls that.
"""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from datasource.json.evaluation import FAMILIES
from datasource.panel_catalog import TARGETS
from datasource.panels.target_question import question_of
from datasource.targets.core import Core
from server.http.services import Services
from server.ingest.mapping.mapping_result import ScoreRecord
from server.ingest.writing.score_writer import ScoreWriter
from server.queries.filters.time_range import BoundedRange
from server.queries.records.budgets import Budget, put_budget
from server.storage.row_scope import RowScope
from server.text.json_text import dumps
from tests.datasource.grafana_client import columns_of
from tests.datasource.seed import ACME, Seed

HERE = Path(__file__).parent

# JavaScript's types of the values that a column of each type may hold.
KINDS = {
    "time": {"number", "null"},
    "number": {"number", "null"},
    "string": {"string", "null"},
    "boolean": {"boolean", "null"},
    "other": {"array", "object", "null"},
}


def declared(frame: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return the columns as we sent them; a series has two by definition."""
    return [("Time", "time"), ("Value", "number")] if "datapoints" in frame else list(columns_of(frame))


@pytest.fixture
async def answers(services: Services, seeded_history: Seed) -> dict[str, list[dict[str, Any]]]:
    """The answer of every target, with data and without."""
    yearly = Budget(
        project_id=ACME, budget_id="all", name="All", amount_usd=Decimal(5), period="year", created_by="test"
    )
    await put_budget(services.writes, yearly)
    liked = ScoreRecord(
        score_id="1", trace_id=seeded_history.trace_id, span_id=None, name="helpfulness", data_type="numeric",
        value=0.75, string_value=None, comment=None, source="human", ts=seeded_history.start,
    )  # fmt: skip
    await ScoreWriter(services.writes, services.freshness).store(ACME, [liked], created_by="test")
    found = {}
    ranges = {
        "": BoundedRange(seeded_history.start, seeded_history.end),
        " without data": BoundedRange(seeded_history.start.replace(year=2020), seeded_history.end.replace(year=2020)),
    }
    for suffix, window in ranges.items():
        for definition in TARGETS.values():
            trace = {"trace_id": seeded_history.trace_id} if definition.field_named("trace_id") and not suffix else {}
            question = question_of(definition, trace, time_range=window, step_seconds=1800)
            frames = await FAMILIES[definition.family].evaluate(Core(services.reads, RowScope((ACME,))), question)
            found[definition.name + suffix] = json.loads(dumps(frames))
    return found


async def test_every_target_becomes_frames_without_guessing(answers: dict[str, list[dict[str, Any]]]) -> None:
    done = subprocess.run(
        ["node", "convert.cjs"], cwd=HERE, input=json.dumps(answers), capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    converted = json.loads(done.stdout)
    assert set(converted) == {"12", "13"}
    for generation, by_name in converted.items():
        for name, frames in by_name.items():
            what = f"{name} in Grafana {generation}"
            assert len(frames) == len(answers[name]), what
            for frame, sent in zip(frames, answers[name], strict=True):
                assert frame["refId"] == "A", what
                assert [(field["name"], field["type"]) for field in frame["fields"]] == declared(sent), what
                for field in frame["fields"]:
                    assert set(field["kinds"]) <= KINDS[field["type"]], (what, field)
            if " " not in name and not name.startswith("annotations."):
                assert any(frame["length"] for frame in frames), what


async def test_units_titles_and_links_arrive(answers: dict[str, list[dict[str, Any]]]) -> None:
    done = subprocess.run(
        ["node", "convert.cjs"], cwd=HERE, input=json.dumps(answers), capture_output=True, text=True, timeout=110
    )
    for by_name in json.loads(done.stdout).values():
        value = by_name["timeseries"][0]["fields"][1]
        assert value["config"] == {"unit": "short", "displayNameFromDS": "Calls"}
        spans = {field["name"]: field["config"] for field in by_name["spans"][0]["fields"]}
        assert spans["duration_ms"]["unit"] == "ms"
        assert spans["trace_id"]["links"][0]["title"] == "Open trace"
        assert by_name["trace"][0]["meta"]["preferredVisualisationType"] == "trace"
        assert by_name["heatmap"][0]["meta"]["type"] == "heatmap-rows"
        assert by_name["logs"][0]["meta"]["type"] == "log-lines"
        assert [frame["name"] for frame in by_name["node_graph"]] == ["nodes", "edges"]
