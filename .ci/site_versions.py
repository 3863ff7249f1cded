"""Versions of the site: each in a folder of its own, with a list of them for the menu in the header.

Called by MkDocs. The address of a page of version 0.1 is ``/0.1/…`` for good, ``/latest/…`` is that of the newest, and
the root leads there. Whoever publishes keeps the folders of older versions beside the new one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REDIRECT = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=latest/"><title>…</title>\n'


def versions() -> tuple[str, str]:
    """Return the version of the program, whole and as the name of its folder (without the patch)."""
    source = (ROOT / "server" / "__init__.py").read_text()
    (whole,) = re.findall(r'^__version__ = "(.+)"', source, re.MULTILINE)
    return whole, ".".join(whole.split(".")[:2])


def on_config(config: Any) -> Any:
    """Build into the folder of the version, and show the menu."""
    config["site_dir"] = str(ROOT / "build" / "site" / versions()[1])
    config["extra"]["version"] = {"provider": "mike", "default": "latest"}
    return config


def on_post_build(config: Any) -> None:
    """Write the list of versions, the root, and the link to the newest."""
    whole, folder = versions()
    site = Path(config["site_dir"]).parent
    listed = site / "versions.json"
    known = json.loads(listed.read_text()) if listed.exists() else []
    others = [{**entry, "aliases": []} for entry in known if entry["version"] != folder]
    rows = [{"version": folder, "title": whole, "aliases": ["latest"]}, *others]
    listed.write_text(json.dumps(rows, indent=1) + "\n")
    (site / "index.html").write_text(REDIRECT)
    latest = site / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder, target_is_directory=True)
