"""Parts of docs/reference/alerts.md that repeat the alert pack."""

from __future__ import annotations

from dashboards.alert_pack import PACK


def alert_table() -> str:
    """Return every alert: group, severity, bound, for how long, where to look, and what it asks."""
    rows = ["| Alert | Severity | Fires | For | Panel |", "|---|---|---|---|---|"]
    for name, interval, alerts in PACK:
        for alert in alerts:
            board, title = alert.panel[0], alert.panel[1].replace("${group_by:text}", "…")
            rows.append(
                f"| [{alert.title}](#{alert.title.lower()}) | {alert.severity} | {alert.comparison} {alert.bound:g},"
                f" every {interval} (`{name}`) | {alert.hold} | {board.title}: {title} |"
            )
    expressions = [f"{alert.title}:\n\n```promql\n{alert.expression}\n```" for _, _, alerts in PACK for alert in alerts]
    return "\n".join([*rows, "", "The questions:", "", "\n\n".join(expressions)])
