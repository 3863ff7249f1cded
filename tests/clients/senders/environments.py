"""Environments of the senders: one a page, with the packages that the page names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("SENDERS_HOME", ROOT / ".venv" / "senders"))
_QUIET = ("--quiet", "--disable-pip-version-check", "--no-compile", "--prefer-binary")


def command_of(sender: dict[str, Any], program: str) -> list[str]:
    """Return the command that runs ``program`` of the page of ``sender``, in an environment made for it if needed."""
    wanted = sender.get("python") or sender.get("node")
    folder = HOME / hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]
    noted = folder / "installed"
    if not noted.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if "python" in sender:
            _run([sys.executable, "-m", "venv", str(folder)], folder)
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", *_QUIET, *sender["python"]], folder)
        else:
            _install_node_packages(sender["node"], folder)
        noted.touch()
    file = folder / (f"send_{sender['name']}.py" if "python" in sender else f"send_{sender['name']}.mjs")
    file.write_text(program, encoding="utf-8")
    return [str(folder / "bin" / "python") if "python" in sender else "node", str(file)]


def _install_node_packages(packages: dict[str, str], folder: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs Node with npm")
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module", "dependencies": packages}))
    switches = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "install", *switches], folder)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True)
