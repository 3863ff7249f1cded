"""The structure of the code, held against the source: who may import whom, the size of rooms, and the place of SQL.

:data:`FLOORS` is the architecture as one list; docs/explanation/architecture.md draws it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("server", "datasource", "plugin", "dashboards")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# From the roof to the ground. A unit is a folder, or a module that lies loose in server/ or datasource/. It may import
# units of lower floors only: nothing of a higher floor, and nothing of its neighbours on the same floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("server.cli",),
    ("server.commands",),
    ("server.demo",),
    ("server.process",),
    ("server.app",),
    ("server.rest.openapi",),
    (
        "server.rest",
        "server.receiver",
        "server.mcp",
        "datasource.json",
        "datasource.jaeger",
        "datasource.tempo",
        "datasource.prometheus",
    ),
    ("server.http", "datasource.targets"),
    ("server.http.wire", "server.export", "server.live", "server.semantic"),
    ("server.access",),
    ("server.upkeep", "server.reports", "server.ingest", "datasource.traces"),
    ("server.ingest.redaction", "server.ingest.writing", "server.queries.metrics", "datasource.panels"),
    ("server.ingest.mapping", "server.queries.lists"),
    (
        "server.cache",
        "server.rate_limit",
        "server.rollups",
        "server.queries.filters",
        "server.queries.records",
        "server.ingest.pricing",
        "server.ingest.counting",
        "plugin",
    ),
    ("server.storage", "server.periodic_task", "dashboards"),
    ("server.fairness",),
    ("server.embedded", "server.telemetry", "server.embedding", "datasource.panel_catalog"),
    (
        "server",
        "server.errors",
        "server.settings",
        "server.schema",
        "server.terminal",
        "server.queries",
        "server.imports",
        "server.ingest.otlp",
        "server.ingest.dialects",
        "server.ingest.messages",
        "datasource",
        "datasource.payload_fields",
        "datasource.prometheus.promql",
    ),
    ("server.content_settings", "server.embedding_settings", "server.grafana_settings", "server.distribution_settings"),
    ("server.text",),
)
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}

# Importers (by prefix of the module) → what they must not import, and why. The floors cannot say these.
FORBIDDEN = {
    "server.queries": (("sanic",), "questions know no HTTP"),
    "server.reports": (("sanic",), "reports know no HTTP"),
    "server.access": (("sanic",), "access decides about principals, not about requests"),
    "server.ingest.mapping": (("server.storage", "asyncpg", "sanic"), "mapping is pure"),
    "dashboards": (("server", "sanic"), "dashboards are data about the catalogue"),
    "plugin": (("server", "sanic"), "the plugin works without a server"),
}
CATALOGUE = {"datasource.panel_catalog", "datasource.payload_fields"}
"""All that plugin and dashboards may know of the data source."""
MOST_LINES = 500
MOST_MODULES = 25
SQL_WORDS = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE .+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL)
MAY_COMPOSE_SQL = ("server/queries/", "server/schema/", "server/storage/project_connection.py")
"""The last writes no statement: it derives the form of one for a single project of a cluster."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the modules that ``path`` imports; for ``from package import module`` that module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def unit_of(module: str) -> str:
    """Return the folder of ``module``, or the module itself where it lies loose in server/ or datasource/."""
    if MODULES[module].name == "__init__.py":
        return module
    folder = module.rpartition(".")[0]
    return module if folder in {"server", "datasource"} else folder


def arrows() -> Iterator[tuple[str, str]]:
    """Yield each import of one module of ours by another."""
    for module, path in MODULES.items():
        yield from ((module, name) for name in imports_of(path) if name in MODULES)


def test_every_unit_has_a_floor() -> None:
    units = {unit_of(module) for module in MODULES}
    assert units == set(FLOOR_OF)


def test_imports_go_down() -> None:
    wrong = sorted(
        f"{importer} ({unit_of(importer)}) imports {imported}, which is not on a lower floor"
        for importer, imported in arrows()
        if unit_of(importer) != unit_of(imported) and FLOOR_OF[unit_of(importer)] >= FLOOR_OF[unit_of(imported)]
    )
    assert not wrong


def test_no_modules_import_each_other() -> None:
    """Imports for types count too: modules that need each other's names are one module, or three."""
    needs: dict[str, set[str]] = {}
    for importer, imported in arrows():
        needs.setdefault(importer, set()).add(imported)
    TopologicalSorter(needs).prepare()


@pytest.mark.parametrize("importer", FORBIDDEN)
def test_imports_keep_to_their_subject(importer: str) -> None:
    forbidden, why = FORBIDDEN[importer]
    found = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if is_within(module, importer)
        for name in imports_of(path)
        if any(is_within(name, prefix) for prefix in forbidden)
    ]
    assert not found, why


def test_only_the_app_imports_blueprints() -> None:
    importers = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module in MODULES
        and any(is_blueprint(node.module, alias.name) for alias in node.names)
    }
    assert importers == {"server.app"}


def is_blueprint(module: str, name: str) -> bool:
    text = MODULES[module].read_text(encoding="utf-8")
    return re.search(rf"^{name} = Blueprint\(", text, re.MULTILINE) is not None


def test_plugin_and_dashboards_know_only_the_catalogue_of_the_data_source() -> None:
    found = {
        f"{importer} imports {imported}"
        for importer, imported in arrows()
        if importer.startswith(("plugin", "dashboards"))
        and is_within(imported, "datasource")
        and imported not in CATALOGUE
    }
    assert not found


def test_sql_is_composed_by_queries_and_the_schema_only() -> None:
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
    """With it a cancelled request would lose a place of the pool for good."""
    wrong = re.compile(r"\b(database|db|reads|writes|worker|_pool)\.transaction\(")
    found = [path.name for path in SOURCES if wrong.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_no_module_has_outgrown_a_reader() -> None:
    found = {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > MOST_LINES}
    assert not found


def test_no_folder_has_outgrown_a_reader() -> None:
    """Routes do not count: they are a list of like things."""
    modules = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for path in SOURCES
        if path.name != "__init__.py" and not path.stem.endswith("routes")
    )
    assert not {folder: count for folder, count in modules.items() if count > MOST_MODULES}


def test_every_folder_says_what_it_holds() -> None:
    silent = [path for path in SOURCES if path.name == "__init__.py" and not path.read_text().startswith('"""')]
    assert not silent


def test_no_module_is_called_after_nothing() -> None:
    assert not [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "manager", "misc", "util"}]


def test_names_of_tests_are_sentences_without_codes() -> None:
    """``test_o16_a_replay…`` tells a reader nothing that ``test_a_replay…`` does not."""
    code = re.compile(r"def (test_(?!p50|p9\d|v1)[a-z]{1,2}\d{1,2}_\w+)")
    found = [
        name for path in (ROOT / "tests").rglob("test_*.py") for name in code.findall(path.read_text(encoding="utf-8"))
    ]
    assert not found
