"""Renders the parts of the reference pages that repeat tables of the program.

``python -m tests.docs.render`` writes them into the pages; a test says when that was forgotten. Nothing else of a
page is touched.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

from sanic import Sanic

from server.app import create_app
from server.cli import make_parser
from server.rest.openapi.document import described_routes
from server.settings import Settings
from server.telemetry.prometheus import METRICS
from tests.docs import (
    alert_tables,
    curl_page,
    grafana_tables,
    mapping_tables,
    metric_tables,
    postman_collection,
    prometheus_tables,
    scaling_model,
    sender_pages,
    trace_query_tables,
)
from tests.packaging.test_structure import FLOORS

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated part -->"


def settings_table() -> str:
    """Return every setting: variable, default, meaning."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for item in fields(Settings):
        default = "" if item.metadata["secret"] else _shown(item.default)
        secret = " Secret." if item.metadata["secret"] else ""
        rows.append(f"| `{item.metadata['env']}` | {default} | {_cell(item.metadata['help'])}{secret} |")
    return "\n".join(rows)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    return f"`{default}`" if default is not None and str(default) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def command_reference() -> str:
    """Return every command with its explanation, arguments and examples."""
    return "\n\n".join(_command(words, parser) for words, parser in commands(make_parser()))


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield all commands that do something, in the order of the help."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield " ".join(words), parser
    for group in groups:
        for name, child in group.choices.items():
            yield from commands(child, (*words, name))


def _command(words: str, parser: argparse.ArgumentParser) -> str:
    parts = [f"### `{words}`", parser.description or ""]
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        if action.choices and not action.metavar:
            value = "\\|".join(map(str, action.choices))
        name = " ".join(filter(None, [", ".join(action.option_strings), str(value)]))
        needed = "; required" if action.required and action.option_strings else ""
        rows.append(f"| `{name}` | {_cell(action.help or '')}{needed} |")
    if rows:
        parts.append("\n".join(["| Argument | Meaning |", "|---|---|", *rows]))
    examples = (parser.epilog or "").removeprefix("examples:\n").rstrip()
    if examples:
        lines = "\n".join(line.removeprefix("  ") for line in examples.splitlines())
        parts.append(f"```sh\n{lines}\n```")
    return "\n\n".join(filter(None, parts))


SECTIONS = {
    "how-to": "How to",
    "how-to/senders": "Send from",
    "clients": "Clients",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
    "benchmarks": "Benchmarks",
}


def index() -> str:
    """Return every page by folder, with the first sentence of its text."""
    parts = []
    for folder, title in SECTIONS.items():
        pages = sorted((DOCS / folder).glob("*.md"), key=lambda page: (page.stem != "index", page.name))
        rows = [f"- [{_title(page)}]({folder}/{page.name})" for page in pages]
        if folder not in ("decisions", "benchmarks"):  # whose titles say it all
            rows = [f"{row}: {_gist(page)}" for row, page in zip(rows, pages, strict=True)]
        if rows:
            parts.append(f"## {title}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def floors() -> str:
    """Return the floors of the architecture, from the roof to the ground, with the subject of each folder."""
    rows = []
    for number, floor in enumerate(FLOORS, 1):
        units = [
            f"`{unit.replace('.', '/')}` {_subject(unit)}" for unit in floor if unit not in ("server", "datasource")
        ]
        rows.append(f"{number}. " + "<br>\n   ".join(units))
    return "\n".join(rows)


def _subject(unit: str) -> str:
    """Return the first paragraph of the docstring of a folder or module, in one line."""
    text = (importlib.import_module(unit).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.replace("``", "`").split())


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].lstrip("# ")


def _gist(page: Path) -> str:
    """Return the first sentence below the heading, without links and emphasis."""
    body = page.read_text().split("\n", 1)[1].strip().split("\n\n", 1)[0].replace("\n", " ")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", body).replace("**", "")
    return re.split(r"(?<=[.:])\s", plain, maxsplit=1)[0].rstrip(":.") + "."


MAPPING = "reference/ingestion-mapping.md"
GRAFANA = "reference/grafana-datasource.md"


def route_table() -> str:
    """Return every route of the server with its scope and cost."""
    app = create_app(Settings(database_url="postgresql://nobody/nothing", jwt_secret="x" * 32), name="routes_of_docs")
    if not app.router.finalized:
        app.router.finalize()
    lines = ["| Method | Path | Scope | Cost |", "|---|---|---|---|"]
    for route in described_routes(app):
        method = "WebSocket" if route.is_websocket else route.method
        scope = f"`{route.policy.scope}`" if route.policy.scope else "open"
        lines.append(f"| {method} | `{route.path}` | {scope} | {route.policy.cost} |")
    Sanic.unregister_app(app)
    return "\n".join(lines)


def server_metrics() -> str:
    """Return every Prometheus metric of the program: name as it is scraped, kind, labels, meaning."""
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {family.type} | {labels} | {_cell(family.documentation)} |")
    return "\n".join(lines)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "curl": ("clients/curl.md", curl_page.curl_commands),
    "routes": ("reference/routes.md", route_table),
    "index": ("index.md", index),
    "scaling-sizes": ("explanation/scaling.md", scaling_model.table),
    "scaling-assumptions": ("explanation/scaling.md", scaling_model.assumptions),
    "server-metrics": ("reference/server-metrics.md", server_metrics),
    "settings": ("reference/configuration.md", settings_table),
    "commands": ("reference/cli.md", command_reference),
    "metrics": ("reference/metrics.md", metric_tables.metrics),
    "metric-dimensions": ("reference/metrics.md", metric_tables.dimensions),
    "metric-parameters": ("reference/metrics.md", metric_tables.parameters),
    "list-parameters": ("reference/trace-query.md", trace_query_tables.list_parameters),
    "filter-parameters": ("reference/trace-query.md", trace_query_tables.filter_parameters),
    "operators": ("reference/trace-query.md", trace_query_tables.operators),
    "types": ("reference/trace-query.md", trace_query_tables.types),
    "span-fields": ("reference/trace-query.md", trace_query_tables.span_fields),
    "trace-fields": ("reference/trace-query.md", trace_query_tables.trace_fields),
    "prometheus-series": ("reference/prometheus.md", prometheus_tables.series_table),
    "promql-functions": ("reference/prometheus.md", prometheus_tables.functions),
    "alert-pack": ("reference/alerts.md", alert_tables.alert_table),
    "grafana-targets": (GRAFANA, grafana_tables.targets),
    "grafana-own-keys": (GRAFANA, grafana_tables.own_keys),
    "grafana-common-keys": (GRAFANA, grafana_tables.common_keys),
    "dashboards": ("reference/dashboards.md", grafana_tables.dashboards),
    "mapping-dialects": (MAPPING, mapping_tables.dialect_table),
    "mapping-aliases": (MAPPING, mapping_tables.alias_table),
    "mapping-families": (MAPPING, mapping_tables.family_table),
    "mapping-providers": (MAPPING, mapping_tables.provider_table),
    "mapping-operations": (MAPPING, mapping_tables.operation_table),
    "mapping-limits": (MAPPING, mapping_tables.limit_table),
    "floors": ("explanation/architecture.md", floors),
    "mapping-reasons": (MAPPING, mapping_tables.reason_table),
    "senders": ("how-to/senders/index.md", sender_pages.table),
    **{
        f"sender-{sender['name']}": (f"how-to/senders/{sender['name']}.md", partial(sender_pages.head, sender))
        for sender in sender_pages.senders()
    },
}


FILES: dict[str, Callable[[], str]] = {
    "clients/postman/collection.json": postman_collection.collection,
    "clients/postman/environment.json": postman_collection.environment,
}
"""Files that are generated as a whole."""


def rendered(name: str) -> tuple[Path, str]:
    """Return the page that holds a part, and its text with the part as it should be."""
    page, render = PARTS[name]
    path = DOCS / page
    head, _, rest = path.read_text().partition(BEGIN.format(name))
    _, _, tail = rest.partition(END)
    return path, f"{head}{BEGIN.format(name)}\n{render()}\n{END}{tail}"


if __name__ == "__main__":
    for part in PARTS:
        target, text = rendered(part)
        target.write_text(text)
    for name, make in FILES.items():
        (DOCS / name).write_text(make())
