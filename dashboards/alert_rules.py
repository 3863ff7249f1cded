"""Alert rules in two forms: as Grafana provisions them, and as Prometheus, Mimir and vmalert read them.

Grafana's alerting asks from its back end, where the JSON data source cannot follow; its built-in Prometheus source can
(:mod:`dashboards.alert_pack`), and so can the Infinity plugin (:mod:`dashboards.infinity_rules`). Names are those of
mixins: what is wrong, in CamelCase, with a label ``severity``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dashboards.board import Board
from dashboards.queries import Json

PROMETHEUS_UID: Final = "llmtraces-prometheus"
RUNBOOK: Final = "docs/reference/alerts.md"
FOLDER: Final = "LLM Observatory"
_EXPRESSION: Final = "__expr__"
_RANGE: Final = {"from": 600, "to": 0}

Severity = Literal["critical", "warning"]
Comparison = Literal[">", "<"]
_EVALUATORS: Final = {">": "gt", "<": "lt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule. ``steps`` are queries and expressions; the last decides: not 0 means firing. ``uid`` never changes.

    ``summary`` and ``description`` are Grafana's templates; ``value`` is the step whose number they show as ``.Value``.
    ``panel`` is the dashboard and the title of the panel that shows what is judged.
    """

    uid: str
    title: str
    severity: Severity
    summary: str
    description: str
    steps: tuple[Json, ...]
    value: str
    hold: str
    panel: tuple[Board, str]

    def render(self, runbooks: str = "", boards: Mapping[str, Board] | None = None) -> Json:
        """Return the rule as the provisioning file has it.

        ``runbooks`` is the address of the page of alerts; ``boards`` are the dashboards by uid, if they are others than
        those of the JSON plugin. A panel that is not among them is not linked: one half of a link would keep Grafana
        from starting.
        """
        runbook = f"{RUNBOOK}#{self.title.lower()}"
        link = {"runbook_url": f"{runbooks}#{self.title.lower()}"} if runbooks else {}
        board = self.panel[0] if boards is None else boards.get(self.panel[0].uid)
        panel = None if board is None else panel_id(board, self.panel[1])
        if board is not None and panel is not None:
            link |= {"__dashboardUid__": board.uid, "__panelId__": str(panel)}
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": self.steps[-1]["refId"],
            "for": self.hold,
            # Nothing to judge, no answer: that is no alarm. An answer that does not come is one.
            "noDataState": "OK",
            "execErrState": "Error",
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self._where_known(self.summary),
                "description": self._where_known(self.description),
                "runbook": runbook,
                **link,
            },
            "data": list(self.steps),
        }

    def _where_known(self, text: str) -> str:
        """Return ``text`` for an alert with a number: Grafana renders it for rules without data, too."""
        return f"{{{{ with $values.{self.value} }}}}{text}{{{{ else }}}}Nothing to judge.{{{{ end }}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromqlAlert:
    """One rule on the Prometheus API: fires for each series of ``expression`` that lies beyond ``bound``."""

    uid: str
    title: str
    severity: Severity
    summary: str
    description: str
    expression: str
    comparison: Comparison
    bound: float
    hold: str
    panel: tuple[Board, str]

    def rule(self) -> AlertRule:
        """Return the rule for Grafana: the query at the moment of the evaluation, and a threshold."""
        asked = step("A", PROMETHEUS_UID, expr=self.expression, instant=True, range=False, editorMode="code")
        return AlertRule(
            uid=self.uid, title=self.title, severity=self.severity, summary=self.summary,
            description=self.description, steps=(asked, threshold("B", "A", _EVALUATORS[self.comparison], self.bound)),
            value="A", hold=self.hold, panel=self.panel,
        )  # fmt: skip

    def render_for_prometheus(
        self, runbooks: str = "", grafana: str = "", boards: Mapping[str, Board] | None = None
    ) -> Json:
        """Return the rule as a rule file of Prometheus has it.

        ``runbooks`` is the address of the page of alerts, ``grafana`` that of a Grafana with the dashboards, as people
        open it; alerts link to what is given. ``boards`` is as for :meth:`AlertRule.render`.
        """
        links = {"runbook_url": f"{runbooks}#{self.title.lower()}"} if runbooks else {}
        shown, title = self.panel
        board = shown if boards is None else boards.get(shown.uid)
        panel = None if board is None else panel_id(board, title)
        if grafana and board is not None and panel is not None:
            project = "{{ $labels.project | urlquery }}"
            links["panel_url"] = f"{grafana}/d/{board.uid}?viewPanel={panel}&var-project={project}"
        return {
            "alert": self.title,
            "expr": f"({self.expression}) {self.comparison} {self.bound:g}",
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary.replace(".Value", "$value"),
                "description": self.description.replace(".Value", "$value"),
                "runbook": f"{RUNBOOK}#{self.title.lower()}",
                "dashboard": f"{shown.uid}: {title}",
                **links,
            },
        }


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Rules that are evaluated together, every ``interval``."""

    name: str
    interval: str
    rules: Sequence[AlertRule]

    def render(self, runbooks: str = "", boards: Mapping[str, Board] | None = None) -> Json:
        """Return the group as an item of ``groups`` in Grafana's provisioning file."""
        return {
            "orgId": 1,
            "name": self.name,
            "folder": FOLDER,
            "interval": self.interval,
            "rules": [rule.render(runbooks, boards) for rule in self.rules],
        }


def last(ref_id: str, of: str) -> Json:
    """Return an expression: the newest number of each label set of ``of``."""
    return step(ref_id, _EXPRESSION, type="reduce", expression=of, reducer="last")


def threshold(ref_id: str, of: str, kind: str, *bounds: float) -> Json:
    """Return an expression: 1 where ``of`` is ``gt`` its bound, or within (without) two bounds: ``within_range``."""
    return step(
        ref_id, _EXPRESSION, type="threshold", expression=of,
        conditions=[{"evaluator": {"type": kind, "params": list(bounds)}}],
    )  # fmt: skip


def math(ref_id: str, expression: str) -> Json:
    """Return an expression over other steps, such as ``$C > 100 && $D > 10``; what is compared has the same labels."""
    return step(ref_id, _EXPRESSION, type="math", expression=expression)


def step(ref_id: str, datasource: str, **model: object) -> Json:
    """Return one step of a rule: a query of the data source, or an expression."""
    return {
        "refId": ref_id,
        "relativeTimeRange": dict(_RANGE),
        "datasourceUid": datasource,
        "model": {"refId": ref_id, **model},
    }


def panel_id(board: Board, title: str) -> int | None:
    """Return the id of the one panel called ``title`` that is more than a figure; None without one."""
    panels = [panel for panel in board.render()["panels"] if panel["type"] not in ("stat", "row")]
    found = [int(panel["id"]) for panel in panels if panel["title"] == title]
    return found[0] if len(found) == 1 else None
