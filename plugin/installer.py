"""Brings a Grafana to the desired state, shows the changes beforehand, and removes everything again.

Idempotent: parts that are as they should be are left alone. Edits of people are kept, unless ``force``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dashboards.message_templates import TEMPLATE_NAME
from plugin.desired_state import (
    FOLDER_TITLE,
    FOLDER_UID,
    MARK,
    DesiredState,
    Json,
    all_group_names,
    board_content,
    digest,
    rule_content,
    source_content,
    template_mark,
)
from plugin.grafana_api import Grafana, GrafanaRefused
from plugin.provisioning_files import PLUGINS

_TEMPLATES: Final = ("v1", "provisioning", "templates")

UNCHANGED: Final = "unchanged"
CREATE: Final = "create"
UPDATE: Final = "update"
DELETE: Final = "delete"
KEEP: Final = "keep"
SKIP: Final = "skip"

_FIRST_VERSION: Final = "Initial save"
"""Grafana's message for a version without a parent, whatever message it was saved with (pkg/api/dashboard.go)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``action`` on ``what``, with the reason if the part is kept; ``run`` carries it out."""

    action: str
    what: str
    run: Callable[[], Any] | None = None
    reason: str = ""

    def __str__(self) -> str:
        """Return one line of the plan."""
        return f"{self.action:9} {self.what}" + (f" ({self.reason})" if self.reason else "")


def missing_plugins(grafana: Grafana, wanted: DesiredState) -> list[str]:
    """Return a sentence for each needed plugin that is not installed, with the way to install it."""
    return [
        f"plugin {PLUGINS[plugin]} ({plugin}) is not installed: run 'grafana cli plugins install {plugin}' and restart "
        f"Grafana, set GF_PLUGINS_PREINSTALL={plugin}, or choose it under Administration → Plugins."
        for plugin in wanted.plugins
        if not _has_plugin(grafana, plugin)
    ]


def _has_plugin(grafana: Grafana, plugin: str) -> bool:
    return grafana.get("plugins", plugin, "settings") is not None


def plan(grafana: Grafana, wanted: DesiredState, *, force: bool = False) -> Iterator[Step]:
    """Yield the steps in order; Grafana is queried for each step when it is reached. Raises GrafanaRefused."""
    yield _folder(grafana)
    for source in wanted.datasources():
        yield _datasource(grafana, source, force, is_needed=source["type"] in wanted.plugins)
    for board in wanted.boards():
        yield _board(grafana, board, force)
    grafana.editable_rules()
    for group in wanted.rule_groups():
        yield _rules(grafana, group, force)
    for name in wanted.other_groups():
        yield from _other_rules(grafana, name, force)
    yield _templates(grafana, wanted.templates(), force)


def removal(grafana: Grafana, wanted: DesiredState) -> Iterator[Step]:
    """Yield the steps that remove everything that :func:`plan` installs. The folder stays if it holds something
    else."""
    ours: list[tuple[str, tuple[str, ...]]] = [
        *((f"alert rules {name}", _group_path(name)) for name in all_group_names()),
        ("message templates", (*_TEMPLATES, TEMPLATE_NAME)),
        *((f"dashboard {board['title']}", ("dashboards", "uid", board["uid"])) for board in wanted.boards()),
        *((f"data source {item['name']}", ("datasources", "uid", item["uid"])) for item in wanted.datasources()),
    ]
    for what, path in ours:
        if grafana.get(*path) is not None:
            yield Step(DELETE, what, partial(grafana.delete, *path))
    if grafana.get("folders", FOLDER_UID) is None:
        return
    others = [item for item in grafana.get("search", folderUIDs=FOLDER_UID) or () if item["uid"] not in _own(wanted)]
    if others:
        yield Step(KEEP, f"folder {FOLDER_TITLE}", reason=f"it holds {len(others)} dashboards that are not ours")
    else:
        yield Step(DELETE, f"folder {FOLDER_TITLE}", lambda: grafana.delete("folders", FOLDER_UID))


def _own(wanted: DesiredState) -> set[str]:
    return {board["uid"] for board in wanted.boards()}


def _group_path(name: str) -> tuple[str, ...]:
    return ("v1", "provisioning", "folder", FOLDER_UID, "rule-groups", name)


def _folder(grafana: Grafana) -> Step:
    what = f"folder {FOLDER_TITLE}"
    if grafana.get("folders", FOLDER_UID) is not None:
        return Step(UNCHANGED, what)
    body = {"uid": FOLDER_UID, "title": FOLDER_TITLE}
    return Step(CREATE, what, lambda: grafana.post("folders", body=body))


def _datasource(grafana: Grafana, source: Json, force: bool, *, is_needed: bool) -> Step:
    what = f"data source {source['name']}"
    if source["type"] in PLUGINS and not is_needed and not _has_plugin(grafana, source["type"]):
        return Step(SKIP, what, reason=f"for those who have the plugin {PLUGINS[source['type']]}")
    there = grafana.get("datasources", "uid", source["uid"])
    if there is None:
        if "secureJsonData" not in source:
            raise GrafanaRefused(
                "A data source needs a key: give one with --key, or have one created with --observatory-token."
            )
        return Step(CREATE, what, lambda: grafana.post("datasources", body=source))
    if there.get("readOnly"):
        return Step(KEEP, what, reason="it is provisioned by a file")
    mark = (there.get("jsonData") or {}).get(MARK)
    if mark != digest(source_content(there)) and not force:
        return Step(KEEP, what, reason="edited in Grafana; --force replaces it")
    if mark == source["jsonData"][MARK] and "secureJsonData" not in source:
        return Step(UNCHANGED, what)
    # The key cannot be read back and compared, so a given key is always written.
    return Step(UPDATE, what, lambda: grafana.put("datasources", "uid", source["uid"], body=source))


def _board(grafana: Grafana, board: Json, force: bool) -> Step:
    what, mark = f"dashboard {board['title']}", f"{MARK} {digest(board)}"
    body = {"dashboard": board, "folderUid": FOLDER_UID, "overwrite": True, "message": mark}
    there = grafana.get("dashboards", "uid", board["uid"])
    if there is None:
        return Step(CREATE, what, lambda: grafana.post("dashboards", "db", body=body))
    if there.get("meta", {}).get("provisioned"):
        return Step(KEEP, what, reason="it is provisioned by a file")
    message = _last_message(grafana, board["uid"])
    if message == mark:
        return Step(UNCHANGED, what)
    # Grafana does not return our message for a first version. Nobody has edited it since, so its content decides.
    if message == _FIRST_VERSION and board_content(there["dashboard"]) == board_content(board):
        return Step(UNCHANGED, what)
    if not message.startswith((f"{MARK} ", _FIRST_VERSION)) and not force:
        return Step(KEEP, what, reason="edited in Grafana; --force replaces it")
    return Step(UPDATE, what, lambda: grafana.post("dashboards", "db", body=body))


def _last_message(grafana: Grafana, uid: str) -> str:
    """Return the message of the newest version. Grafana 11 answers with a list, newer ones with an object."""
    found = grafana.get("dashboards", "uid", uid, "versions", limit=1) or []
    versions = found.get("versions", []) if isinstance(found, dict) else found
    return str(versions[0].get("message") or "") if versions else ""


def _rules(grafana: Grafana, group: Json, force: bool) -> Step:
    what = f"alert rules {group['title']}"
    path = _group_path(group["title"])
    there = grafana.get(*path)

    def write() -> Any:
        return grafana.put(*path, body=group)

    if there is None:
        return Step(CREATE, what, write)
    marks, edited = _marks_of(there)
    if edited and not force:
        return Step(KEEP, what, reason=f"edited in Grafana: {', '.join(edited)}; --force replaces them")
    wanted = {rule["title"]: rule["annotations"][MARK] for rule in group["rules"]}
    return Step(UNCHANGED, what) if marks == wanted and not edited else Step(UPDATE, what, write)


def _templates(grafana: Grafana, wanted: Json, force: bool) -> Step:
    what, path = "message templates", (*_TEMPLATES, wanted["name"])
    there = grafana.get(*path)

    def write() -> Any:
        return grafana.put(*path, body={"template": wanted["template"]})

    if there is None:
        return Step(CREATE, what, write)
    mark, is_ours = template_mark(there["template"])
    if not is_ours and not force:
        return Step(KEEP, what, reason="edited in Grafana; --force replaces them")
    return Step(UNCHANGED if mark == template_mark(wanted["template"])[0] and is_ours else UPDATE, what, write)


def _other_rules(grafana: Grafana, name: str, force: bool) -> Iterator[Step]:
    """Yield the step that removes a group of another choice of alerts, if it exists."""
    what, path = f"alert rules {name}", _group_path(name)
    there = grafana.get(*path)
    if there is None:
        return
    _, edited = _marks_of(there)
    if edited and not force:
        yield Step(KEEP, what, reason=f"edited in Grafana: {', '.join(edited)}; --force removes them")
    else:
        yield Step(DELETE, what, lambda: grafana.delete(*path))


def _marks_of(group: Json) -> tuple[dict[str, str | None], list[str]]:
    """Return the marks of a group's rules by title, and the titles of those that people edited."""
    marks = {rule["title"]: (rule.get("annotations") or {}).get(MARK) for rule in group["rules"]}
    return marks, [rule["title"] for rule in group["rules"] if marks[rule["title"]] != digest(rule_content(rule))]
