"""Every code block of the pages is tried by a test, or is named here with the reason why not.

A new page with a block fails here until its writer has decided.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.markdown import ROOT, pages

LANGUAGES = {"sh", "bash", "console", "python", "js", "ts", "java", "sql", "promql", "json", "yaml", "toml"}
"""What can be run or read by a program; others are pictures, output, or parts of files."""

HOW_TO = "tests/docs/test_how_to_examples.py"
SENDERS = "tests/clients/senders/test_senders.py"
TYPES = "tests/clients/generated/test_generated_types.py"
# Page, or folder; languages; the test that tries them.
TRIED = (
    ("README.md", "sh", "tests/docs/test_examples.py"),
    ("docs/quickstart.md", "sh python", "tests/docs/test_examples.py"),
    ("docs/how-to/rotate-keys.md", "sh", "tests/docs/test_examples.py"),
    ("docs/how-to/budgets.md", "sh", HOW_TO),
    ("docs/how-to/own-panel.md", "sh", HOW_TO),
    ("docs/how-to/move-from-another-tool.md", "sh console", HOW_TO),
    ("docs/how-to/notebook.md", "sh python", HOW_TO),
    ("docs/how-to/retention-and-erasure.md", "sh", HOW_TO),
    ("docs/how-to/backup-and-restore.md", "sh", HOW_TO),
    ("docs/how-to/alert-on-budgets.md", "sh json", "tests/plugin/test_alert_rules.py"),
    ("docs/how-to/alert-without-grafana.md", "console yaml", "tests/plugin/test_real_rulers.py"),
    ("docs/how-to/infinity.md", "json yaml", "tests/datasource/test_infinity.py"),
    ("docs/how-to/collector.md", "yaml", "tests/docs/test_collector_config.py"),
    ("docs/how-to/grafana.md", "console", HOW_TO),
    ("docs/clients/python.md", "python", HOW_TO),
    ("docs/reference/exports.md", "sh", HOW_TO),
    ("docs/reference/metrics.md", "sh json", HOW_TO),
    ("docs/reference/analytics.md", "json", HOW_TO),
    ("docs/reference/trace-query.md", "json", HOW_TO),
    ("docs/how-to/connect-an-identity-provider.md", "bash", "tests/access/test_keycloak.py"),
    ("docs/how-to/senders", "sh python js", SENDERS),
    ("docs/how-to/senders", "json toml yaml", "tests/docs/test_sender_settings.py"),
    ("docs/how-to/agents.md", "sh json toml", "tests/mcp/test_agent_settings.py"),
    ("docs/clients/typescript.md", "sh ts", "tests/clients/node/test_node_clients.py"),
    ("docs/reference/cli.md", "sh", "tests/docs/test_commands_on_pages.py"),
    ("docs/clients/curl.md", "sh", "tests/contract/test_examples.py"),
    ("docs/clients/go.md", "sh", TYPES),
    ("docs/clients/java.md", "sh", TYPES),
    ("docs/reference/alerts.md", "promql", "tests/plugin/test_alert_rules.py"),
)
# Page, or folder; languages; why nobody tries them.
NOT_TRIED = (
    ("docs/how-to/grafana.md", "json", "a payload with variables of Grafana"),
    ("docs/how-to/own-panel.md", "json promql", "variables of Grafana; the same question is asked by cURL below it"),
    ("docs/how-to/infinity.md", "console", "installs a plugin"),
    ("docs/how-to/alert-on-budgets.md", "console", "needs a Grafana"),
    ("docs/how-to/collector.md", "sh console", "needs a Collector"),
    ("docs/how-to/deploy.md", "sql", "passwords and a cluster of one's own"),
    ("docs/how-to/send-traces.md", "sh", "variables for the exporter of an application"),
    ("docs/how-to/upgrade.md", "sh", "one command, of which tests/schema has every way"),
    ("docs/clients/java.md", "java", "a request of the JDK"),
    ("docs/reference/access.md", "bash", "the same request as in docs/clients/curl.md"),
    ("docs/reference/coding-agents.md", "sh", "variables for Claude Code"),
    ("docs/reference/dashboards.md", "console", "needs a Grafana and a browser"),
    ("docs/reference/errors.md", "json", "an answer"),
    ("docs/reference/ingestion.md", "json", "an answer"),
    ("docs/reference/live-tail.md", "sh", "has no end; tests/live reads the stream"),
    ("docs/reference/prometheus.md", "yaml", "a part of Grafana's settings"),
    ("docs/reference/semantic-search.md", "bash", "installs, and asks a vendor"),
    ("docs/reference/server-metrics.md", "yaml", "a part of Prometheus' settings"),
    ("docs/reference/trace-detail.md", "json", "an answer"),
)


def blocks() -> set[tuple[str, str]]:
    """Return each page with each of the languages of its blocks."""
    past = (ROOT / "docs" / "decisions", ROOT / "docs" / "benchmarks")
    found = set()
    for page in pages():
        if page.path.parent not in past:
            languages = set(re.findall(r"^```(\w+)$", page.text, re.MULTILINE)) & LANGUAGES
            found |= {(str(page), language) for language in languages}
    return found


def covers(place: str, languages: str, block: tuple[str, str]) -> bool:
    """Return whether a row is about ``block``."""
    page, language = block
    return language in languages.split() and (page == place or str(Path(page).parent) == place)


def test_every_block_is_tried_or_is_named_with_the_reason_why_not() -> None:
    rows = [(place, languages) for place, languages, _ in TRIED + NOT_TRIED]
    assert [block for block in sorted(blocks()) if sum(covers(*row, block) for row in rows) != 1] == []


def test_no_row_is_about_nothing() -> None:
    found = blocks()
    for place, languages, _ in TRIED + NOT_TRIED:
        for language in languages.split():
            assert any(covers(place, language, block) for block in found), (place, language)


def test_the_tests_exist_and_name_their_pages() -> None:
    for place, _, test in TRIED:
        text = (ROOT / test).read_text(encoding="utf-8")
        assert Path(place).stem in text or "rglob" in text, (place, test)
