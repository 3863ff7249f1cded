"""Each promise of the security model, and each hostile check, names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/explanation/security-model.md").read_text(encoding="utf-8")
CHECKS = (ROOT / "docs/explanation/hostile-checks.md").read_text(encoding="utf-8")
_TEST = r"`(tests/[\w/]+\.py)::(\w+)`"
NAMED = re.findall(_TEST, PAGE)


def test_every_promise_about_neighbours_names_a_test() -> None:
    table = PAGE.partition("| Promised about neighbours | Held by |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = table.splitlines()
    assert len(rows) > 20
    assert len(NAMED) == len(rows)
    assert [row for row in rows if not re.fullmatch(r"\| .+ \| `tests/[\w/]+\.py::\w+` \|", row)] == []


def test_each_of_the_checks_that_failed_once_names_a_test() -> None:
    rows = [line for line in CHECKS.splitlines() if re.match(r"\| [A-Z]+\d", line)]
    checks = {check for row in rows for check in row.split("|")[1].replace(",", " ").split()}
    first_round = {check for check in checks if not check.startswith("Y")}
    assert len(first_round) == 31
    assert len(checks) > len(first_round)
    assert [row for row in rows if not re.fullmatch(rf"\| [^|]+ \| [^|]+ \| {_TEST} \|", row)] == []


def test_the_named_tests_exist() -> None:
    for path, name in NAMED + re.findall(_TEST, CHECKS):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in found, f"{path} has no {name}"
