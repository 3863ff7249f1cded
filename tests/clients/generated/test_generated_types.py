"""The types that a published generator makes of the API's description compile, by the commands of their pages.

Run by ``make test-generated-types``, which installs the generator; skipped without it or without the compiler.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sanic import Sanic

from server.app import create_app
from server.rest.openapi.document import build_document
from server.settings import Settings

PAGES = Path(__file__).resolve().parents[3] / "docs" / "clients"
BUILDERS = {"go": "go", "java": "mvn"}
SECONDS = 900


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the description."""
    app = create_app(Settings(database_url="postgresql://nobody/nothing", jwt_secret="x" * 32), name="routes_of_types")
    app.router.finalize()
    (tmp_path / "openapi.json").write_text(json.dumps(build_document(app)))
    Sanic.unregister_app(app)
    return tmp_path


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("language", BUILDERS)
def test_generated_types_compile(language: str, folder: Path) -> None:
    for program in ("openapi-generator-cli", "java", BUILDERS[language]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    text = (PAGES / f"{language}.md").read_text(encoding="utf-8")
    commands = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "generate" in block)
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=folder, env=os.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-3000:]
    written = [path.name for path in (folder / "observatory").rglob(f"*.{language}")]
    assert {"span", "search", "problem"} <= {re.sub(r"^model_|\..*", "", name).lower() for name in written}
