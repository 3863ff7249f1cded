"""The pages hold together: links lead somewhere, generated parts are fresh, nothing is missing from the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from plugin.provisioning_files import Provisioning
from server import __version__
from server.settings import Settings
from tests.docs.markdown import ROOT, Page, pages
from tests.docs.render import DOCS, FILES, PARTS, rendered

WIDTH = 100
MOST_WORDS = 600
INDEX = Page(ROOT / "docs" / "index.md")


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_lead_to_files_and_headings_that_exist(page: Page) -> None:
    broken = []
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        if not path.exists() or (anchor and anchor not in Page(path).anchors()):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("part", PARTS)
def test_generated_parts_are_fresh(part: str) -> None:
    path, text = rendered(part)
    assert path.read_text() == text, "run: python -m tests.docs.render"


@pytest.mark.parametrize("name", FILES)
def test_generated_files_are_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == FILES[name](), "run: python -m tests.docs.render"


def test_every_setting_of_the_program_is_a_variable_of_one_name() -> None:
    names = [item.metadata["env"] for item in Settings.__dataclass_fields__.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", name) for name in names)


def test_settings_named_in_the_pages_exist() -> None:
    """A setting that was renamed must not live on in a page."""
    known = {item.metadata["env"] for item in Settings.__dataclass_fields__.values()}
    elsewhere = {"OBSERVATORY_COMMAND"}  # of compose.yaml
    for page in pages():
        named = set(re.findall(r"\b(?:OBSERVATORY|DATABASE|REDIS|JWT)_[A-Z_]+\b", page.text))
        assert named <= known | elsewhere, page


@pytest.mark.parametrize("page", [page for page in pages() if page.path.parent != ROOT], ids=str)
def test_every_page_is_in_the_index(page: Page) -> None:
    linked = {(INDEX.path.parent / link.partition("#")[0]).resolve() for link in INDEX.links()}
    assert page.path in linked or page.path == INDEX.path


def test_pages_named_in_the_sources_exist() -> None:
    folders = ("server", "datasource", "dashboards", "plugin")
    sources = [path for name in folders for kind in ("py", "sql", "lua") for path in (ROOT / name).rglob(f"*.{kind}")]
    named = {(path, page) for path in sources for page in re.findall(r"docs/[\w/-]+\.md", path.read_text())}
    assert named
    assert [(str(path), page) for path, page in named if not (ROOT / page).exists()] == []


def test_decisions_are_numbered_once() -> None:
    numbers = [path.name[:4] for path in (ROOT / "docs" / "decisions").glob("*.md")]
    assert len(numbers) == len(set(numbers))
    assert all(number.isdigit() for number in numbers)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_has_a_date_and_a_status_and_fits_on_a_page(path: Path) -> None:
    text = path.read_text()
    head = "\n".join(text.splitlines()[1:6])
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", head)
    assert re.search(r"accepted|in force|superseded|rejected", head)
    assert len(text.split()) <= MOST_WORDS, "move measurements to docs/benchmarks"


@pytest.mark.parametrize("page", pages(), ids=str)
def test_lines_are_wrapped(page: Page) -> None:
    prose = page.without_generated_parts_and_examples().splitlines()
    assert [
        line for line in prose if len(line) > WIDTH and not line.startswith(("|", "#")) and " " in line.strip()
    ] == []


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:server|datasource|tests|plugin|dashboards)/[\w/.]+)`", text))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()] == []


def test_the_changelog_has_a_section_for_what_comes_or_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{__version__}]" in text


def test_the_compose_file_names_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    known = {item.metadata["env"] for item in Settings.__dataclass_fields__.values()}
    for name in ("server", "setup"):
        assert set(compose["services"][name]["environment"]) <= known
    assert Path(ROOT / compose["services"]["grafana"]["volumes"][0].partition(":")[0]).is_dir()
    assert {"postgres", "valkey", "setup", "server", "grafana"} == set(compose["services"])


HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("path", HOW_TO, ids=lambda path: path.name)
def test_a_page_that_needs_a_token_says_where_to_get_it(path: Path) -> None:
    page = Page(path)
    asks = re.findall(r"Bearer \$(TOKEN|ADMIN)|environ\[\"(TOKEN)\"\]", page.text)
    if asks and not re.search(r"^(export )?TOKEN=", page.text, re.MULTILINE):
        assert "(../quickstart.md#2-get-a-token)" in page.text


def test_data_sources_have_the_names_that_the_installer_gives() -> None:
    known = {source["name"] for source in Provisioning().datasources()}
    named = {
        re.sub(r"\s+", " ", name)
        for page in pages()
        for name in re.findall(r"data source \*([^*]+)\*", page.text)
        if "decisions" not in page.path.parts
    }
    assert named
    assert named <= known
