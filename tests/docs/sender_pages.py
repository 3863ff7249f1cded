"""The parts of docs/how-to/senders that follow from its data: a table of all senders, and the head of each page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "senders"
COLUMNS = {
    "tokens": "Tokens",
    "cached": "Cached tokens",
    "cost": "Cost",
    "content": "Prompts and answers",
    "session": "Session",
    "user": "User",
}


def senders() -> list[dict[str, Any]]:
    """Return the senders in the order of the table."""
    rows: list[dict[str, Any]] = json.loads((FOLDER / "senders.json").read_text(encoding="utf-8"))
    return rows


def table() -> str:
    """Return all senders with what arrives."""
    lines = [f"| Sender | Kind | Run | {' | '.join(COLUMNS.values())} |", f"|{'---|' * (len(COLUMNS) + 3)}"]
    for sender in senders():
        page, kind = f"[{sender['title']}]({sender['name']}.md)", sender["kind"].lower()
        lines.append(f"| {page} | {kind} | {_short(sender)} | {' | '.join(_arrives(sender))} |")
    return "\n".join(lines)


def head(sender: dict[str, Any]) -> str:
    """Return what a page says about its sender before its example."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", f"|{'---|' * len(COLUMNS)}", f"| {' | '.join(_arrives(sender))} |"]
    return "\n".join([_how_it_was_run(sender), "", *lines])


def _arrives(sender: dict[str, Any]) -> list[str]:
    return [{True: "yes", False: "no"}.get(sender["arrives"][name], sender["arrives"][name]) for name in COLUMNS]


def _short(sender: dict[str, Any]) -> str:
    return str(sender.get("ran") or ("captured" if "captured" in sender else "no"))


def _how_it_was_run(sender: dict[str, Any]) -> str:
    if "python" in sender:
        packages = " ".join(f"'{name}'" if "[" in name else name for name in sender["python"])
        return f"{_when(sender)} With:\n\n```sh\npip install {packages}\n```"
    if "node" in sender:
        packages = " ".join(f"{name}@{version}" for name, version in sender["node"].items())
        return f"{_when(sender)} With:\n\n```sh\nnpm install {packages}\n```"
    if "ran_with" in sender:
        return f"Run by us, against a stub of the vendor, on {sender['ran']}: {sender['ran_with']}."
    if "captured" in sender:
        return "Not run by us as it is here; the payloads that it sent are captured, and read by the tests."
    return "**Not run by us**: written from its documentation."


def _when(sender: dict[str, Any]) -> str:
    if "ran" in sender:
        return f"Run by us as it is here, against a stub of the vendor, on {sender['ran']}."
    return "**Not run by us** as it is here: `make test-senders` does it."


def example(sender: dict[str, Any]) -> tuple[str, str]:
    """Return language and text of the program on a page; raises LookupError where there is none."""
    text = (FOLDER / f"{sender['name']}.md").read_text(encoding="utf-8")
    for language in ("python", "js"):
        found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if found:
            return language, found[1]
    raise LookupError(sender["name"])


def variables(sender: dict[str, Any]) -> dict[str, str]:
    """Return the variables that the page has readers set, as written there."""
    text = (FOLDER / f"{sender['name']}.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^export (\w+)=\"?(.*?)\"?$", text, re.MULTILINE))
