"""The parts of an installed Grafana: folder, data sources, dashboards, alert rules, each with a mark of its content.

The mark is a digest of the installed content. A part that still has the mark of its own content may be replaced; a part
with another mark was edited by somebody and is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dashboards.message_templates import TEMPLATE, TEMPLATE_NAME
from plugin.provisioning_files import (
    ALERTS,
    INFINITY_PLUGIN,
    JSON_PLUGIN,
    AlertSource,
    Provisioning,
)

Json = dict[str, Any]

FOLDER_UID: Final = "llm-observatory"
FOLDER_TITLE: Final = "LLM Observatory"
MARK: Final = "llm-observatory"


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Everything to be installed for the server at ``url`` (as Grafana reaches it).

    Without a ``key`` existing data sources keep their keys, and new ones cannot be created. ``alerts`` is the data
    source of alert rules, ``runbooks`` the address at which people read about alerts. Without ``plugin`` the dashboards
    are those that need none.
    """

    url: str
    key: str = ""
    alerts: AlertSource = "prometheus"
    runbooks: str = ""
    plugin: bool = True

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that the parts need."""
        needed = {JSON_PLUGIN: self.plugin, INFINITY_PLUGIN: self.alerts == "infinity"}
        return tuple(name for name, is_needed in needed.items() if is_needed)

    @property
    def files(self) -> Provisioning:
        """The same state for a Grafana that is provisioned by files."""
        return Provisioning(
            url=self.url.rstrip("/"), key_file="-", alerts=self.alerts, runbooks=self.runbooks, plugin=self.plugin
        )

    def datasources(self) -> Iterator[Json]:
        """Return the data sources as ``POST /api/datasources`` takes them, their keys under ``secureJsonData``."""
        for source in self.files.datasources():
            secret = {name: value.replace("$__file{-}", self.key) for name, value in source["secureJsonData"].items()}
            wanted = {key: value for key, value in source.items() if key not in ("orgId", "editable", "secureJsonData")}
            wanted["jsonData"] = {**wanted["jsonData"], MARK: digest(source_content(wanted))}
            yield {**wanted, "secureJsonData": secret} if self.key else wanted

    def boards(self) -> Iterator[Json]:
        """Return the dashboards as ``POST /api/dashboards/db`` takes them."""
        for board in self.files.boards():
            yield board.render()

    def rule_groups(self) -> Iterator[Json]:
        """Return the groups of alert rules as ``PUT /api/v1/provisioning/folder/…/rule-groups/…`` takes them."""
        for group in self.files.rule_groups():
            name, seconds = group["name"], _seconds(group["interval"])
            rules = []
            for rule in group["rules"]:
                wanted = {**rule, "folderUID": FOLDER_UID, "ruleGroup": name, "orgID": 1}
                wanted["annotations"] = {**rule["annotations"], MARK: digest(rule_content(wanted))}
                rules.append(wanted)
            yield {"title": name, "folderUid": FOLDER_UID, "interval": seconds, "rules": rules}

    @staticmethod
    def templates() -> Json:
        """Return the templates of messages as ``PUT /api/v1/provisioning/templates/…`` takes them, with a mark."""
        return {"name": TEMPLATE_NAME, "template": f"{{{{/* {MARK} {digest(TEMPLATE)} */}}}}\n{TEMPLATE}"}

    def other_groups(self) -> Iterator[str]:
        """Return the names of groups that belong to another choice of ``alerts`` but not to this one."""
        wanted = {group.name for group in ALERTS[self.alerts]}
        yield from (name for name in all_group_names() if name not in wanted)


def all_group_names() -> tuple[str, ...]:
    """Return the names of the groups of alert rules of every data source."""
    return tuple(dict.fromkeys(group.name for groups in ALERTS.values() for group in groups))


def digest(content: Any) -> str:
    """Return a short digest of JSON values, the same for equal ones."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def board_content(board: Mapping[str, Any]) -> Json:
    """Return the content of a dashboard without the members that Grafana adds by itself."""
    return {key: value for key, value in board.items() if key not in ("id", "version")}


def source_content(source: Mapping[str, Any]) -> Json:
    """Return the content of a data source without the members that Grafana adds by itself."""
    settings = {key: value for key, value in (source.get("jsonData") or {}).items() if key != MARK}
    return {**{key: source.get(key) for key in ("name", "type", "url", "access")}, "jsonData": settings}


def rule_content(rule: Mapping[str, Any]) -> Json:
    """Return the content of a rule without the members that Grafana adds by itself."""
    added = {"intervalMs", "maxDataPoints", "datasource"}
    steps = [
        {
            "refId": step["refId"],
            "datasourceUid": step["datasourceUid"],
            "model": {key: value for key, value in step["model"].items() if key not in added},
        }
        for step in rule["data"]
    ]
    annotations = {key: value for key, value in (rule.get("annotations") or {}).items() if key != MARK}
    kept = {key: rule.get(key) for key in ("title", "condition", "noDataState", "execErrState", "labels")}
    return {**kept, "for": _seconds(str(rule.get("for") or "0s")), "annotations": annotations, "data": steps}


def template_mark(template: str) -> tuple[str, bool]:
    """Return the mark of an installed template ("" without one), and whether it still matches the template's text."""
    first, _, rest = template.partition("\n")
    words = first.split()
    if len(words) != 4 or words[1] != MARK:
        return "", False
    return words[2], words[2] == digest(rest.strip() + "\n")


def _seconds(text: str) -> int:
    """Return seconds of Grafana's ``30m``, ``5m0s``, ``1h``."""
    units, total, number = {"s": 1, "m": 60, "h": 3600, "d": 86400}, 0, ""
    for character in text:
        if character.isdigit():
            number += character
        else:
            total, number = total + int(number or 0) * units[character], ""
    return total
