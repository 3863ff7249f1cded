"""Single calls on top of a line: the slowest ones, each with a link to its trace."""

from __future__ import annotations

from typing import Final

from datasource.panels.frames import Column, FieldType, FrameMeta, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from datasource.targets.spans import TRACE_LINK
from server.queries.filters.filter_tree import And, Filter, parse_filter
from server.queries.lists.list_question import ListQuestion, Sort
from server.queries.lists.list_reader import list_spans
from server.queries.metrics.metric_question import Measure

MOST: Final = 50

# Metrics that single calls have as a column.
COLUMNS: Final = {"duration": "duration_ms", "time_to_first_token": "ttft_ms"}
_IS_CALL: Final = parse_filter({"field": "is_generation", "operator": "eq", "value": True})


async def exemplars(core: Core, question: TargetQuestion, measures: tuple[Measure, ...]) -> list[Frame]:
    """Return the frame that Grafana draws as diamonds, for the first measure that single calls have; else nothing."""
    column = next((COLUMNS[item.metric] for item in measures if item.metric in COLUMNS), None)
    if column is None:
        return []
    tree: Filter = _IS_CALL if question.filter is None else And((_IS_CALL, question.filter))
    asked = ListQuestion(
        window=question.time_range,
        filter=tree,
        sort=(Sort(column),),
        fields=("ts", column, "trace_id", "model", "service_name"),
        limit=MOST,
    )
    page = await list_spans(core.database, core.scope, asked)
    columns = [
        Column("Time", FieldType.TIME),
        Column("Value", FieldType.NUMBER, {"unit": "ms"}),
        Column("trace_id", FieldType.STRING, {"links": [TRACE_LINK]}),
        Column("model", FieldType.STRING),
        Column("service", FieldType.STRING),
    ]
    rows = [
        [row["ts"], row[column], row["trace_id"], row["model"], row["service_name"]]
        for row in sorted(page.rows, key=lambda row: row["ts"])
        if row[column] is not None
    ]
    meta = FrameMeta(topic="annotations", custom={"resultType": "exemplar"})
    return [wire_frame(question.ref_id, "exemplar", columns, rows, meta)]
