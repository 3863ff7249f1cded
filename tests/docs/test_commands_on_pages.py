"""Each command ``llm-observatory`` in a block of a page, such as docs/reference/cli.md, is one that there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from server.cli import make_parser
from tests.docs.markdown import Page, pages

SHELLS = ("sh", "bash", "console", "")
_COMMAND = re.compile(r" *(?:[A-Z_]+=\S+ +)*(?:\S*/)?llm-observatory (.+)")
_SUBSTITUTED = re.compile(r"\$\((.*?)\)")


def commands(page: Page) -> Iterator[str]:
    """Yield the words after the program's name, of each command in a block for a shell."""
    for language in SHELLS:
        for block in page.examples(language):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith(("llm-observatory: ", "#")):
                    continue  # what the program printed
                inner = _SUBSTITUTED.findall(line)
                for text in inner or [line.removeprefix("$ ")]:
                    if found := _COMMAND.fullmatch(text):
                        yield found[1]


FOUND = [(str(page), command) for page in pages() if "decisions" not in page.path.parts for command in commands(page)]


def words(command: str) -> list[str]:
    """Return the words that the shell would hand on: without pipes, redirections and what follows them."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|><;&")
    lexer.whitespace_split = True
    found = []
    for word in lexer:
        if set(word) <= set("|><;&"):
            break
        found.append(word)
    return found


@pytest.mark.parametrize(("page", "command"), FOUND, ids=lambda value: value[:60])
def test_the_program_takes_the_commands_of_pages(page: str, command: str) -> None:
    try:
        make_parser().parse_args(words(command))
    except SystemExit as end:
        pytest.fail(f"{page}: llm-observatory {command}: exit code {end.code}")


def test_the_pages_have_commands_of_all_kinds() -> None:
    names = {words(command)[0] for _, command in FOUND}
    assert names >= {"demo", "serve", "migrate", "grafana", "key", "token", "ingest", "import", "tail", "export"}
