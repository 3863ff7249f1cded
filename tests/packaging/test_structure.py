"""The structure that docs/decisions promise, held against the source: who imports whom, and where SQL may stand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("server", "datasource", "plugin", "dashboards")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Importers (by prefix of the module) → what they must not import, and why.
FORBIDDEN = {
    "server.queries": (("sanic", "server.rest", "server.access.guard", "datasource"), "the core knows no HTTP"),
    "server.reports": (("sanic", "server.rest", "server.access.guard", "datasource"), "reports know no HTTP"),
    "server.ingest.span_mapping": (("server.database", "asyncpg", "sanic"), "mapping is pure"),
    "dashboards": (("server", "sanic"), "dashboards are data about the catalogue"),
    "plugin": (("server", "sanic"), "the plugin works without a server"),
}
# The catalogue that plugin and dashboards read is the one door to the data source.
MOST_LINES = 500
SQL_WORDS = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE .+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL)
MAY_COMPOSE_SQL = (
    "server/queries/",
    "server/schema/",
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("importer", FORBIDDEN)
def test_imports_go_one_way(importer: str) -> None:
    forbidden, why = FORBIDDEN[importer]
    found = [
        f"{module_name(path)} imports {name}"
        for path in SOURCES
        if is_within(module_name(path), importer)
        for name in imports_of(path)
        if any(is_within(name, prefix) for prefix in forbidden)
    ]
    assert not found, why


def test_only_the_app_imports_blueprints() -> None:
    routes = {module_name(path) for path in SOURCES if path.stem.endswith("routes") or path.stem == "routes"}
    importers = {
        module_name(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module in routes
        and any(alias.name.islower() and is_blueprint(node.module, alias.name) for alias in node.names)
    }
    assert importers == {"server.app"}


def is_blueprint(module: str | None, name: str) -> bool:
    text = (ROOT / (str(module).replace(".", "/") + ".py")).read_text(encoding="utf-8")
    return re.search(rf"^{name} = Blueprint\(", text, re.MULTILINE) is not None


def test_plugin_and_dashboards_know_only_the_catalogue_of_the_data_source() -> None:
    doors = {"datasource.panel_catalog", "datasource.payload_fields"}
    found = {
        f"{module_name(path)} imports {name}"
        for package in ("plugin", "dashboards")
        for path in (ROOT / package).rglob("*.py")
        for name in imports_of(path)
        if is_within(name, "datasource") and name not in doors
    }
    assert not found


def test_sql_stands_with_the_queries_and_the_schema() -> None:
    found = []
    for path in SOURCES:
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(MAY_COMPOSE_SQL):
            continue
        found += [
            f"{place}:{node.lineno}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL_WORDS.search(node.value)
        ]
    assert not found


def test_no_database_transaction_of_the_databases_library() -> None:
    """O1: a cancelled request would lose a pool slot for good."""
    wrong = re.compile(r"\b(database|db|reads|writes|worker|_pool)\.transaction\(")
    found = [path.name for path in SOURCES if wrong.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_no_module_has_outgrown_a_reader() -> None:
    found = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > MOST_LINES}
    assert not found


def test_no_module_is_called_after_nothing() -> None:
    assert not [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "manager", "misc", "util"}]
