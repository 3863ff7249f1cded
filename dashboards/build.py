"""Writes the dashboards' JSON: ``python -m dashboards.build``, or ``--check`` to only compare.

The files are generated and committed, so that a Grafana can mount them without Python. The same definitions always
produce the same bytes. There are two sets: for the JSON plugin, and for a Grafana without plugins.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dashboards import (
    llm_agents,
    llm_coding_agents,
    llm_cost,
    llm_errors,
    llm_explore,
    llm_latency,
    llm_models,
    llm_overview,
    llm_prompts,
    llm_quality,
    llm_server,
    llm_sessions,
    llm_tokens,
    llm_trace,
)
from dashboards.board import Board
from dashboards.without_plugin import boards_without_plugin

FOLDER: Final = Path(__file__).parent / "json"
BOARDS: Final[tuple[Board, ...]] = tuple(
    module.BOARD
    for module in (
        llm_overview,
        llm_latency,
        llm_cost,
        llm_tokens,
        llm_errors,
        llm_models,
        llm_sessions,
        llm_agents,
        llm_coding_agents,
        llm_quality,
        llm_prompts,
        llm_explore,
        llm_trace,
    )
)


BOARDS_WITHOUT_PLUGIN: Final = boards_without_plugin(BOARDS)
FOLDER_WITHOUT_PLUGIN: Final = Path(__file__).parent / "json_without_plugin"
SERVER_BOARD: Final = llm_server.BOARD
"""The one that asks a Prometheus of yours; it is part of both sets."""
FOLDER_SERVER: Final = Path(__file__).parent / "json_server"
SETS: Final[Mapping[Path, Sequence[Board]]] = {
    FOLDER: BOARDS,
    FOLDER_WITHOUT_PLUGIN: BOARDS_WITHOUT_PLUGIN,
    FOLDER_SERVER: (SERVER_BOARD,),
}
"""The dashboards of each folder of committed files."""


def render_files(boards: Sequence[Board] = BOARDS) -> dict[str, str]:
    """File name and content of every dashboard."""
    return {f"{board.uid}.json": json.dumps(board.render(), indent=2, ensure_ascii=False) + "\n" for board in boards}


def stale_files() -> list[str]:
    """Return the names of files that differ from their definition, are missing, or have none."""
    stale = []
    for folder, boards in SETS.items():
        wanted = render_files(boards)
        present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
        stale += [f"{folder.name}/{name}" for name in {*wanted, *present} if wanted.get(name) != present.get(name)]
    return sorted(stale)


def main(arguments: list[str] | None = None) -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 when a file is stale")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_files()
        for name in stale:
            print(f"{name} is stale: run python -m dashboards.build", file=sys.stderr)
        return 1 if stale else 0
    for folder, boards in SETS.items():
        folder.mkdir(exist_ok=True)
        wanted = render_files(boards)
        for path in folder.glob("*.json"):
            if path.name not in wanted:
                path.unlink()
        for name, content in wanted.items():
            (folder / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
