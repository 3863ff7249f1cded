"""The answer of each target of the catalogue, from the query core up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from datasource.json.evaluation import FAMILIES
from datasource.panel_catalog import TARGETS
from datasource.panels.target_question import current_period, question_of
from datasource.targets.call_paths import money_text
from datasource.targets.comparison import relative_change
from datasource.targets.core import Core
from datasource.targets.events import Event, grouped
from server.errors import InsufficientScope
from server.http.services import Services
from server.ingest.mapping.mapping_result import ScoreRecord
from server.ingest.writing.score_writer import ScoreWriter
from server.queries.filters.time_range import BoundedRange
from server.queries.records.budgets import Budget, list_budgets, put_budget
from server.reports.budget_report import budget_state
from server.reports.report_window import ReportSource
from server.storage.row_scope import RowScope
from server.text.json_text import dumps
from tests.datasource.seed import ACME, TRACES, Seed, trace
from tests.span_factory import store

Ask = Any
EVERYTHING = RowScope((ACME,))


@pytest.fixture
def ask(services: Services, seeded_history: Seed) -> Ask:
    """Asks one target: ``await ask("timeseries", metric="calls")`` returns its frames as JSON values."""

    async def asking(
        name: str, *, scope: RowScope = EVERYTHING, timezone: str = "UTC", **payload: Any
    ) -> list[dict[str, Any]]:
        definition = TARGETS[name]
        window = BoundedRange(seeded_history.start, seeded_history.end)
        question = question_of(definition, payload, time_range=window, step_seconds=1800, timezone=timezone)
        frames = await FAMILIES[definition.family].evaluate(Core(services.reads, scope), question)
        return list(orjson.loads(dumps(frames)))

    return asking


def column(frame: dict[str, Any], name: str) -> list[Any]:
    """Return the values of one column of a table or wire frame."""
    if "schema" in frame:
        names = [field["name"] for field in frame["schema"]["fields"]]
        return list(frame["data"]["values"][names.index(name)])
    place = [item["text"] for item in frame["columns"]].index(name)
    return [row[place] for row in frame["rows"]]


async def test_a_time_series_adds_up_to_what_was_stored(ask: Ask) -> None:
    (frame,) = await ask("timeseries", metric="calls")
    assert sum(value for value, _ in frame["datapoints"]) == TRACES
    assert all(isinstance(at, int) for _, at in frame["datapoints"])
    assert frame["refId"] == "A"
    assert frame["meta"]["custom"]["step_ms"] == 1_800_000


async def test_groups_are_lines_with_labels(ask: Ask) -> None:
    frames = await ask("timeseries", metric="calls", group_by="model")
    assert {frame["title"]: sum(value for value, _ in frame["datapoints"]) for frame in frames} == {
        "gpt-5": 16, "gpt-4.1": 16, "claude-opus-4": 16,
    }  # fmt: skip
    assert all(frame["tags"] == {"model": frame["title"]} for frame in frames)


async def test_percentiles_come_as_lines_of_their_own(ask: Ask) -> None:
    frames = await ask("timeseries", metric="duration", aggregation="p50,p95,p99")
    assert [frame["title"] for frame in frames] == ["p50", "p95", "p99"]
    assert {frame["unit"] for frame in frames} == {"ms"}


async def test_exemplars_are_the_slowest_calls_with_their_traces(ask: Ask) -> None:
    *lines, marks = await ask("timeseries", metric="duration", aggregation="p95", exemplars=True)
    assert len(lines) == 1
    assert marks["schema"]["meta"] == {"dataTopic": "annotations", "custom": {"resultType": "exemplar"}}
    assert max(column(marks, "Value")) == 400.0 + 25 * (TRACES - 1)
    assert column(marks, "Time") == sorted(column(marks, "Time"))
    assert column(marks, "trace_id")[-1] == f"{TRACES - 1:032x}"
    assert len(await ask("timeseries", metric="calls", exemplars=True)) == 1


async def test_a_filter_narrows_every_point(ask: Ask) -> None:
    frames = await ask("timeseries", metric="calls", model="var-model=gpt-5", user="var-user=user-0")
    assert 0 < sum(value for frame in frames for value, _ in frame["datapoints"]) < 16


async def test_stat_compares_with_the_period_before(ask: Ask) -> None:
    (frame,) = await ask("stat", metric="calls,errors")
    assert column(frame, "Calls") == [TRACES]
    assert column(frame, "Errors") == [TRACES // 8]
    assert column(frame, "Calls before") == [0]
    assert column(frame, "Calls change") == [None]


async def test_a_change_is_only_told_against_a_period_with_data(
    ask: Ask, services: Services, seeded_history: Seed
) -> None:
    (frame,) = await ask("stat", metric="calls", layout="change")
    assert column(frame, "Calls") == [None, TRACES]
    assert frame["data"]["entities"] == [None, {"Inf": [0]}], "Grafana would write 0 % beside a single value"
    assert "there are no data before" in frame["schema"]["meta"]["notices"][0]["text"]
    length = seeded_history.end - seeded_history.start
    for number in range(20):
        await store(services, ACME, trace(900 + number, seeded_history.start - length + timedelta(seconds=number)))
    (frame,) = await ask("stat", metric="calls", layout="change")
    assert column(frame, "Calls") == [20, TRACES]
    assert "entities" not in frame["data"]


@pytest.mark.parametrize(
    ("value", "before", "expected"),
    [(110, 100, 0.1), (0, 100, -1.0), (3, 0, None), (3, None, None), (None, 3, None), (101, 10, None)],
)
def test_a_relative_change_means_something_or_is_not_told(value: Any, before: Any, expected: float | None) -> None:
    found = relative_change(value, before)
    assert found == (None if expected is None else pytest.approx(expected))


async def test_money_of_today_does_not_follow_the_range(ask: Ask, services: Services, seeded_history: Seed) -> None:
    now = datetime.now(UTC)
    today = [item for number in range(3) for item in trace(900 + number, now - timedelta(seconds=1 + number))]
    await store(services, ACME, today)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = [item for item in today if item.total_cost_usd is not None and item.ts >= midnight]
    (frame,) = await ask("stat", metric="cost", period="day", compare="none")
    (spent,) = column(frame, "Cost")
    since = sum(0.0012 for number in range(TRACES) if seeded_history.at(number) >= midnight)
    assert spent == pytest.approx(since + 0.0012 * len(whole))


@pytest.mark.parametrize(("period", "start"), [("day", (3, 25)), ("week", (3, 23)), ("month", (3, 1))])
def test_a_calendar_period_begins_at_local_midnight(period: str, start: tuple[int, int]) -> None:
    now = datetime(2026, 3, 26, 2, 30, tzinfo=UTC)
    found = current_period(period, "America/New_York", now)
    local = found.start.astimezone(ZoneInfo("America/New_York"))
    assert ((local.month, local.day), local.hour, found.end) == (start, 0, now)


async def test_groups_without_a_value_are_left_out_and_counted_where_wished(ask: Ask) -> None:
    (shown,) = await ask("breakdown", metric="spans", group_by="tool")
    (hidden,) = await ask("breakdown", metric="spans", group_by="tool", missing="hide")
    assert "not reported" in column(shown, "tool")
    assert column(hidden, "tool") == ["lookup"]
    assert hidden["meta"]["notices"][0]["text"] == f"Left out: {2 * TRACES} (spans) without tool."


async def test_a_model_has_one_colour_in_every_panel(ask: Ask) -> None:
    lines = await ask("timeseries", metric="calls", group_by="model", colors=True)
    (ring,) = await ask("breakdown", metric="cost", group_by="provider,model", layout="columns", colors=True)
    fields = [frame["schema"]["fields"][1] for frame in lines]
    drawn = {field["config"]["displayNameFromDS"]: field["config"]["color"]["fixedColor"] for field in fields}
    ringed = {item["text"].rpartition(" / ")[2]: item["color"]["fixedColor"] for item in ring["columns"]}
    assert drawn == ringed
    assert len(set(drawn.values())) == len(drawn)


async def test_an_interval_that_the_range_cuts_is_left_out_where_wished(ask: Ask) -> None:
    (whole,) = await ask("timeseries", metric="calls", interval="50m")
    (cut,) = await ask("timeseries", metric="calls", interval="50m", incomplete="hide", colors=True)
    values = cut["data"]["values"][1]
    assert None in values
    assert [found for found in values if found is not None] == [
        value for (value, _), kept in zip(whole["datapoints"], values, strict=True) if kept is not None
    ]


async def test_first_sights_close_together_are_one_line_and_none_in_a_long_range(ask: Ask) -> None:
    (frame,) = await ask("annotations.releases")
    (short,) = await ask("annotations.releases", longest_days=1)
    assert 0 < len(column(short, "time")) < len(column(frame, "time"))
    start = datetime(2026, 3, 1, tzinfo=UTC)
    events = [Event(start + timedelta(minutes=at), f"release {at}", "", (), str(at)) for at in (0, 1, 2, 90)]
    lines = grouped(events, timedelta(minutes=10))
    assert [line.title for line in lines] == ["3 first sightings", "release 90"]
    assert lines[0].text == "release 0; release 1; release 2."


async def test_a_table_shows_a_dash_where_there_is_no_value_and_its_link_first(ask: Ask) -> None:
    for name in ("spans", "traces", "errors", "slowest"):
        (frame,) = await ask(name)
        assert {item["noValue"] for item in frame["columns"]} == {"–"}
        assert frame["columns"][0]["links"], name
        widths = [item.get("custom", {}) for item in frame["columns"]]
        assert sum(width.get("width", width.get("minWidth", 160)) for width in widths) <= 1380, name


async def test_cells_of_a_heatmap_count_and_states_are_named_once(ask: Ask) -> None:
    (heatmap,) = await ask("heatmap", metric="duration")
    assert {field["config"].get("unit") for field in heatmap["schema"]["fields"][1:]} == {"short"}
    for frame in await ask("availability", group_by="provider"):
        assert frame["schema"]["fields"][1]["config"]["displayNameFromDS"] == frame["schema"]["name"]


async def test_one_trace_is_not_all_traces(ask: Ask, seeded_history: Seed) -> None:
    for name in ("flame_graph", "node_graph"):
        frames = await ask(name, one_trace=True)
        assert not any(frame["data"]["values"][0] for frame in frames if frame["schema"]["name"] == "nodes")
    (flame,) = await ask("flame_graph", trace_id=seeded_history.trace_id, value="time")
    assert column(flame, "label")[0] == "invoke_agent planner"
    (nodes, edges) = await ask("node_graph")
    assert all(text.endswith(("call", "calls")) for text in column(nodes, "mainstat"))
    assert max(column(edges, "thickness")) > 1


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0"), (0.0000123, "$0.000012"), (0.0041, "$0.0041"), (12.3, "$12.30"), (0.49, "$0.49")]
)
def test_money_has_the_digits_that_matter(amount: float, text: str) -> None:
    assert money_text(amount) == text


async def test_breakdown_ranks_and_sums_the_rest(ask: Ask) -> None:
    (frame,) = await ask("breakdown", metric="cost,calls", group_by="model", limit=2)
    assert column(frame, "Calls") == [16, 16, 16]
    assert column(frame, "model")[-1] == "other"
    (wide,) = await ask("breakdown", metric="cost", group_by="model", layout="columns")
    assert len(wide["rows"]) == 1
    assert sum(wide["rows"][0]) == pytest.approx(TRACES * 0.0012)


async def test_the_month_is_what_was_spent_and_what_is_expected(
    ask: Ask, services: Services, seeded_history: Seed
) -> None:
    # A zone in which all that is stored lies within one day, whatever the hour is in which this runs.
    zone = "UTC" if seeded_history.end.hour >= 7 else "Etc/GMT+7"
    (alone,) = await ask("month_forecast", timezone=zone)
    assert column(alone, "So far") == [pytest.approx(TRACES * 0.0012)]
    assert column(alone, "Expected") == [None], "the costs of one day that is not over say nothing about the month"
    for day in range(1, 9):
        if day == 3:
            (short,) = await ask("month_forecast", timezone=zone)
            assert column(short, "Expected") == [None]
            assert "needs at least" in short["meta"]["notices"][0]["text"]
        await store(services, ACME, trace(900 + day, seeded_history.start - timedelta(days=day)))
    (frame,) = await ask("month_forecast", timezone=zone)
    (least,), (expected,), (most,) = (column(frame, name) for name in ("At least", "Expected", "At most"))
    assert 0 < least <= expected <= most
    assert column(frame, "So far")[0] <= most


async def test_budgets_are_rows_with_the_figures_of_the_api(ask: Ask, services: Services, seeded_history: Seed) -> None:
    (empty,) = await ask("budgets")
    assert empty["rows"] == []
    for name, amount, model in (("roomy", "1000", None), ("tight", "0.05", None), ("one", "0.02", "gpt-5")):
        wanted = Budget(
            project_id=ACME, budget_id=name, name=name, amount_usd=Decimal(amount), period="year",
            dimension=model and "model", value=model,
        )  # fmt: skip
        await put_budget(services.writes, wanted)
    (frame,) = await ask("budgets")
    assert column(frame, "name") == ["tight", "one", "roomy"]
    assert column(frame, "status") == ["critical", "warning", "ok"]
    assert column(frame, "spent_usd") == [TRACES * 0.0012, 16 * 0.0012, TRACES * 0.0012]
    source = ReportSource(services.reads, EVERYTHING)
    for budget in await list_budgets(services.reads, EVERYTHING):
        state = orjson.loads(dumps(await budget_state(source, budget, seeded_history.end)))
        row = column(frame, "name").index(budget.name)
        for name in ("used_pct", "projected_usd", "projected_pct"):
            assert column(frame, name)[row] == state[name]
    assert (await ask("budgets", scope=RowScope(("other",))))[0]["rows"] == []


async def test_the_heatmap_has_ascending_bounds_and_every_call(ask: Ask) -> None:
    (frame,) = await ask("heatmap", metric="duration")
    assert frame["schema"]["meta"]["type"] == "heatmap-rows"
    bounds = [float(field["name"]) for field in frame["schema"]["fields"][1:]]
    assert bounds == sorted(bounds)
    assert sum(sum(values) for values in frame["data"]["values"][1:]) == TRACES


async def test_the_histogram_has_edges_and_counts(ask: Ask) -> None:
    (frame,) = await ask("histogram", metric="duration")
    assert column(frame, "xMin")[1:] == column(frame, "xMax")[:-1]
    assert sum(column(frame, "count")) == TRACES


async def test_availability_tells_changes_of_state(ask: Ask) -> None:
    frames = await ask("availability", group_by="provider")
    assert {frame["schema"]["name"] for frame in frames} == {"openai", "anthropic"}
    for frame in frames:
        states = frame["data"]["values"][1]
        assert set(states) <= {"ok", "degraded", "failing", None}
        assert all(first != second for first, second in pairwise(states))


async def test_recent_errors_have_messages_and_links(ask: Ask) -> None:
    (frame,) = await ask("errors")
    assert "429 too many requests" in column(frame, "error_message")
    links = next(item["links"] for item in frame["columns"] if item["text"] == "trace_id")
    assert links[0]["url"].startswith("/d/llm-trace?var-trace_id=")


async def test_slowest_calls_come_first(ask: Ask) -> None:
    (frame,) = await ask("slowest", limit=5)
    durations = column(frame, "duration_ms")
    assert durations == sorted(durations, reverse=True)
    assert len(durations) == 5
    assert all(name.startswith("chat ") for name in column(frame, "span_name")), "agents are not calls"
    assert frame["meta"]["notices"][0]["text"] == "The first 5 rows; there are more."


async def test_traces_are_found_by_what_one_of_their_spans_has(ask: Ask) -> None:
    (frame,) = await ask("traces", model="gpt-5")
    assert len(frame["rows"]) == 16
    assert set(column(frame, "span_count")) == {3}
    assert set(column(frame, "generation_count")) == {1}


async def test_xy_gives_two_numbers_a_call(ask: Ask) -> None:
    (frame,) = await ask("xy", x="completion_tokens", y="duration_ms")
    assert len(column(frame, "completion_tokens")) == TRACES
    assert None not in column(frame, "duration_ms")


async def test_logs_tell_prompt_answer_and_error(ask: Ask) -> None:
    (frame,) = await ask("logs", status="error", limit=1000)
    assert frame["schema"]["meta"]["type"] == "log-lines"
    assert {labels["part"] for labels in column(frame, "labels")} == {"prompt", "answer", "error"}
    assert len(set(column(frame, "id"))) == len(column(frame, "id"))


async def test_content_stays_hidden_without_the_right_to_it(ask: Ask) -> None:
    blind = RowScope((ACME,), may_read_content=False)
    with pytest.raises(InsufficientScope):
        await ask("logs", scope=blind)
    (frame,) = await ask("errors", scope=blind)
    assert set(column(frame, "error_message")) == {None}


async def test_the_waterfall_keeps_the_contract_of_the_traces_panel(ask: Ask, seeded_history: Seed) -> None:
    (frame,) = await ask("trace", trace_id=seeded_history.trace_id)
    assert frame["schema"]["meta"]["preferredVisualisationType"] == "trace"
    assert len(column(frame, "spanID")) == 3
    assert all(column(frame, "spanID"))
    assert set(column(frame, "traceID")) == {seeded_history.trace_id}
    assert column(frame, "parentSpanID")[0] is None
    assert set(column(frame, "statusCode")) <= {0, 1, 2}
    assert 2 in column(frame, "statusCode")
    for name in ("tags", "serviceTags", "logs", "references"):
        assert all(isinstance(value, list) for value in column(frame, name))
    # Microseconds survive as the fraction of a millisecond.
    assert any(start != int(start) for start in column(frame, "startTime"))
    tags = {tag["key"]: tag["value"] for row in column(frame, "tags") for tag in row}
    assert tags["gen_ai.usage.input_tokens"] == 100 + TRACES - 1


async def test_a_missing_trace_is_an_empty_panel_that_says_why(ask: Ask) -> None:
    (frame,) = await ask("trace", trace_id="var-trace_id=")
    assert frame["data"]["values"][0] == []
    assert "Choose a trace" in frame["schema"]["meta"]["notices"][0]["text"]
    (unknown,) = await ask("trace", trace_id="0123")
    assert "no trace 0123" in unknown["schema"]["meta"]["notices"][0]["text"]


async def test_messages_and_totals_of_a_trace(ask: Ask, seeded_history: Seed) -> None:
    (said,) = await ask("messages", trace_id=seeded_history.trace_id)
    assert column(said, "role") == ["user", "assistant"]
    assert column(said, "content") == [f"question {TRACES - 1}", f"answer {TRACES - 1}"]
    (sums,) = await ask("trace_totals", trace_id=seeded_history.trace_id)
    assert column(sums, "Spans") == [3]
    assert column(sums, "Cost") == [0.0012]


async def test_scores_of_a_trace_name_what_they_judge(ask: Ask, services: Services, seeded_history: Seed) -> None:
    (none,) = await ask("trace_scores", trace_id=seeded_history.trace_id)
    assert (none["columns"], none["rows"]) == ([], []), "without heads the panel can say where scores come from"
    (waterfall,) = await ask("trace", trace_id=seeded_history.trace_id)
    span_id, span_name = column(waterfall, "spanID")[1], column(waterfall, "operationName")[1]
    common = {"trace_id": seeded_history.trace_id, "source": "human", "string_value": None, "comment": None}
    judged = (
        {"name": "helpfulness", "span_id": None, "data_type": "numeric", "value": 0.75},
        {"name": "polite", "span_id": span_id, "data_type": "boolean", "value": 1.0},
        {"name": "tone", "span_id": None, "data_type": "categorical", "value": None, "string_value": "warm",
         "comment": "well said"},
    )  # fmt: skip
    scores = [
        ScoreRecord(score_id=str(place), ts=seeded_history.start + timedelta(seconds=place), **(common | score))
        for place, score in enumerate(judged)
    ]
    await ScoreWriter(services.writes, services.freshness).store(ACME, scores, created_by="test")
    (frame,) = await ask("trace_scores", trace_id=seeded_history.trace_id)
    assert column(frame, "name") == ["helpfulness", "polite", "tone"]
    assert column(frame, "value") == ["0.75", "true", "warm"]
    assert column(frame, "span") == ["the whole trace", span_name, "the whole trace"]
    assert column(frame, "comment") == [None, None, "well said"]


async def test_the_node_graph_joins_agents_tools_and_models(ask: Ask) -> None:
    nodes, edges = await ask("node_graph")
    assert set(column(nodes, "id")) == {
        "agent:planner", "tool:lookup", "model:gpt-5", "model:gpt-4.1", "model:claude-opus-4",
    }  # fmt: skip
    assert set(column(edges, "source")) == {"agent:planner"}
    assert set(column(edges, "source")) | set(column(edges, "target")) <= set(column(nodes, "id"))
    arcs = zip(column(nodes, "arc__ok"), column(nodes, "arc__error"), strict=True)
    assert all(ok + error == pytest.approx(1) for ok, error in arcs)


@pytest.mark.parametrize(("value", "total"), [("cost", TRACES * 0.0012), ("time", None)])
async def test_the_flame_graph_has_one_root_and_adds_up(ask: Ask, value: str, total: float | None) -> None:
    (frame,) = await ask("flame_graph", value=value)
    levels, values = column(frame, "level"), column(frame, "value")
    assert levels[0] == 0
    assert levels.count(0) == 1
    assert all(second <= first + 1 for first, second in pairwise(levels))
    assert values[0] == pytest.approx(sum(column(frame, "self")))
    if total is not None:
        assert values[0] == pytest.approx(total)


async def test_releases_are_the_first_sight_of_versions(ask: Ask, seeded_history: Seed) -> None:
    (frame,) = await ask("annotations.releases")
    titles = column(frame, "title")
    assert "Deployment: checkout 1.1.0" in titles
    assert "New model: openai gpt-5" in titles
    assert "Prompt version: answer 2" in titles
    assert column(frame, "time") == sorted(column(frame, "time"))
    (models,) = await ask("annotations.releases", kinds="model")
    assert len(column(models, "title")) == 3


async def test_every_target_answers_a_range_without_data_with_its_columns(services: Services) -> None:
    """A.7 h: headers stay."""
    window = BoundedRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
    for definition in TARGETS.values():
        payload = {"trace_id": "none"} if definition.field_named("trace_id") else {}
        question = question_of(definition, payload, time_range=window, step_seconds=3600)
        frames = await FAMILIES[definition.family].evaluate(Core(services.reads, RowScope((ACME,))), question)
        assert frames, definition.name
        for frame in frames:
            if definition.name in ("budgets", "trace_scores"):
                assert frame["columns"] == [], "the panel's words on how to get one would come after the heads"
                continue
            shape = frame.get("columns") or frame.get("schema", {}).get("fields") or frame.get("datapoints")
            assert shape is not None, definition.name


def test_every_family_of_the_catalogue_is_answered_and_no_other() -> None:
    assert {definition.family for definition in TARGETS.values()} == set(FAMILIES)
