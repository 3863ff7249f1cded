"""Parts of docs/reference/prometheus.md that repeat tables of the program."""

from __future__ import annotations

from datasource.prometheus.gauges import GAUGES
from datasource.prometheus.promql.aggregation import AGGREGATIONS
from datasource.prometheus.promql.evaluate import FUNCTIONS
from datasource.prometheus.series_catalog import FAMILIES, SPAN_LABELS


def series_table() -> str:
    """Return every metric with type, own labels and meaning."""
    rows = ["| Metric | Type | Meaning | Labels |", "|---|---|---|---|"]
    for family in FAMILIES.values():
        own = {name: None for part in family.parts for name in part.labels}
        values = [f"`{name}` ({', '.join(part.labels[name] for part in family.parts)})" for name in own]
        missing = [name for name in SPAN_LABELS if name not in family.labels]
        if family.family != "spans":
            labels = ", ".join(f"`{name}`" for name in family.labels)
        else:
            labels = "; ".join([*values, *([f"not `{'`, `'.join(missing)}`"] if missing else [])])
        scope = " Needs `costs:read`." if family.permission == "costs:read" else ""
        rows.append(f"| `{family.name}` | {family.type} | {family.help}{scope} | {labels} |")
    for gauge in GAUGES.values():
        scope = " Needs `costs:read`." if gauge.permission == "costs:read" else ""
        labels = ", ".join(f"`{name}`" for name in gauge.labels)
        rows.append(f"| `{gauge.name}` | gauge | {gauge.help}{scope} | {labels} |")
    rows += ["", f"Unless told otherwise the labels are {', '.join(f'`{name}`' for name in SPAN_LABELS)};"]
    rows += ["those without a value are left out."]
    return "\n".join(rows)


def functions() -> str:
    """Return every function and aggregation."""
    return (
        f"- functions: {', '.join(f'`{name}`' for name in sorted(FUNCTIONS))}\n"
        f"- aggregations: {', '.join(f'`{name}`' for name in AGGREGATIONS)}"
    )
