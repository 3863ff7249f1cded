"""The wheel has the files of the tree, and the pinned packages are the required ones."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("server", "datasource", "plugin", "dashboards")
BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the tree: building writes into the source folder."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    subprocess.run([sys.executable, "-c", BUILD, target], cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(target.glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    """Also what is no Python: statements, migrations, Lua, tables, dashboards."""
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    packed = {name for name in wheel.namelist() if name.split("/")[0] in PACKAGES}
    assert tree - packed == set(), "add them to [options.package_data] in setup.cfg"
    assert packed - tree == set()
    assert any(name.endswith(".lua") for name in packed)
    assert any(name.endswith(".sql") for name in packed)


def test_the_wheel_brings_licence_and_command(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert "llm-observatory = server.cli:main" in wheel.read(entry_points).decode()
    assert not any(name.startswith("tests/") for name in names)


def requirements() -> list[Requirement]:
    """Return all requirements of setup.cfg, tests and linters included."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    lines = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [
        Requirement(line)
        for block in lines
        for line in block.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def normal(name: str) -> str:
    """Return the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    """Return the pinned versions."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_requirements_are_pinned_in_both_places_alike(requirement: Requirement) -> None:
    assert str(requirement.specifier) == f"=={constraints()[normal(requirement.name)]}"


def test_the_page_of_dependencies_says_what_each_is_for() -> None:
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text()
    listed = re.findall(r"^\| `([\w-]+)` \| .+ \|$", page, re.MULTILINE)
    assert sorted(map(normal, listed)) == sorted(normal(requirement.name) for requirement in requirements())


def test_everything_that_requirements_bring_is_pinned() -> None:
    """Follows the installed packages: a new dependency of a dependency belongs into constraints.txt."""
    pinned, seen = constraints(), set()
    waiting = requirements()
    while waiting:
        requirement = waiting.pop()
        name = normal(requirement.name)
        key = (name, *sorted(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert name in pinned, f"add {name}=={metadata.version(name)} to constraints.txt"
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            extras = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
                waiting.append(needed)
