"""Every panel option that the dashboards set exists under that name and with that value in Grafana's own types.

The TypeScript compiler compares the options and custom field settings in dashboards/json with the panel schemas of
``@grafana/schema`` 12.4 and 13.1. Grafana silently drops options that it does not know.
Run by ``make test-grafana-data``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.dashboard_files import load, panels_of

MODULES = Path(__file__).parent / "node_modules"
SCHEMAS = {
    "12.4": MODULES / "@grafana" / "schema" / "dist" / "types",
    "13.1": MODULES / "grafana-data-13" / "node_modules" / "@grafana" / "schema" / "dist" / "types",
}

# Panels whose options Grafana does not describe in that package.
WITHOUT_SCHEMA = {"alertlist", "flamegraph", "traces"}

# Any part of a type may be left out (Grafana fills in its defaults), and an enum is given by its text.
PARTIAL = """
type Part<T> = T extends string ? (string extends T ? string : `${T}`)
  : T extends (infer Item)[] ? Part<Item>[]
  : T extends object ? { [Key in keyof T]?: Part<T[Key]> } : T;
"""

COMPILER_OPTIONS = {
    "strict": True, "noEmit": True, "skipLibCheck": True, "moduleResolution": "bundler", "module": "esnext",
    "target": "es2022", "lib": ["es2022", "dom"], "types": [],
}  # fmt: skip


def schema_of(types: Path, kind: str) -> Path:
    """Return the file of the panel's types; folders have the panel's name in lowercase, without a dash."""
    return types / "raw" / "composable" / kind.replace("-", "").lower() / "panelcfg" / "x" / "types.gen"


def declarations(types: Path) -> Iterator[str]:
    """Yield one TypeScript constant for the options of each panel, and one for its custom field settings."""
    for name, board in load().items():
        for panel in panels_of(board):
            if panel["type"] in WITHOUT_SCHEMA:
                continue
            imported = f"import('{schema_of(types, panel['type'])}')"
            about = f"/* {name}: {panel['title'].replace('*/', '')} */"
            custom = panel["fieldConfig"]["defaults"].get("custom")
            for part, value in (("Options", panel["options"]), ("FieldConfig", custom)):
                if value is not None:
                    yield constant(f"Part<{imported}.{part}>", value, about)


def constant(kind: str, value: Any, about: str) -> str:
    return f"{about} ((): {kind} => ({json.dumps(value)}));"


def complaints(types: Path, source: str, folder: Path) -> str:
    """Return the compiler's messages about ``source``."""
    (folder / "panels.ts").write_text(f"{PARTIAL}{source}\nexport {{}};\n")
    options = {**COMPILER_OPTIONS, "paths": {"@grafana/schema": [str(types / "index.d.ts")]}}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["panels.ts"]}))
    compiler = MODULES / "typescript" / "bin" / "tsc"
    return subprocess.run(["node", compiler, "-p", folder], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("version", SCHEMAS)
def test_options_exist_in_grafana(version: str, tmp_path: Path) -> None:
    types = SCHEMAS[version]
    assert complaints(types, "\n".join(declarations(types)), tmp_path) == ""


def test_an_option_that_does_not_exist_is_found(tmp_path: Path) -> None:
    types = SCHEMAS["12.4"]
    table = f"Part<import('{schema_of(types, 'table')}').Options>"
    found = complaints(types, constant(table, {"footer": {"show": False}, "cellHeight": "sm"}, ""), tmp_path)
    assert "'\"footer\"' does not exist" in found
    assert "not assignable" in complaints(types, constant(table, {"cellHeight": "huge"}, ""), tmp_path)
