"""The colour of a group: one model, provider or service has the same colour in every panel of every dashboard.

Models, providers and services take the palette's colours in the order in which they were first seen, so that a new one
never changes the others. The colours of values of other dimensions follow from their names. Red is reserved for errors.
The colours are distinct for colour-blind people, and on dark and light backgrounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from datasource.targets.core import Core
from server.queries.metrics.metric_answer import MetricGroup
from server.queries.records.annotations import list_first_seen

PALETTE: Final = (
    "#5794F2", "#FF9830", "#1AA398", "#B877D9", "#D9B400", "#E36FB2", "#38B6D8", "#A56A43", "#7A9A3A", "#6E5DE7",
    "#B15C8A", "#0A7E8C", "#8F3BB8", "#9DB02C", "#1F60C4", "#D683CE", "#C78F00", "#56A64B", "#5F6C8C", "#806EB7",
)  # fmt: skip
OTHER: Final = "#8E8E8E"
NO_VALUE: Final = "#B0B0B0"
STATUS: Final = {"OK": "#56A64B", "ERROR": "#E02F44", "UNSET": "#5794F2"}

Colors = Mapping[tuple[str | None, ...], str]


async def colors_of(core: Core, dimensions: Sequence[str], groups: Sequence[MetricGroup]) -> dict[int, str]:
    """Return the colour of each of ``groups`` by its place; empty without dimensions."""
    if not dimensions:
        return {}
    # Of several dimensions the last one distinguishes the groups best: provider and model, agent and tool.
    deciding = dimensions[-1]
    order = await list_first_seen(core.database, core.scope, deciding)
    known = {value: place for place, value in enumerate(order)}
    return {place: _color(deciding, group, known) for place, group in enumerate(groups)}


def color_config(color: str | None) -> dict[str, Any]:
    """Return Grafana's field config for a fixed colour; empty for None."""
    return {"color": {"mode": "fixed", "fixedColor": color}} if color else {}


def _color(dimension: str, group: MetricGroup, known: Mapping[str, int]) -> str:
    label = group.labels.get(dimension)
    if group.is_other:
        return OTHER
    if label is None:
        return NO_VALUE
    if dimension == "status":
        return STATUS.get(label.upper(), OTHER)
    place = known.get(label)
    return PALETTE[(crc32(label.encode()) if place is None else place) % len(PALETTE)]
