"""The rules of prose in CONTRIBUTING.md hold, as far as a program can check them."""

from __future__ import annotations

import pytest

from tests.docs.prose import ROOT, findings, is_imperative, phrases_in

FOLDERS = (
    "dashboards",
    "datasource",
    "plugin",
    "CHANGELOG.md",
    "docs/clients",
    "docs/decisions",
    "docs/explanation",
    "docs/glossary.md",
    "docs/how-to",
    "docs/quickstart.md",
    "Makefile",
    "setup.cfg",
    "pyproject.toml",
    ".ci",
    *(
        f"{top}/{folder.name}"
        for top in ("server", "tests")
        for folder in sorted((ROOT / top).iterdir())
        if folder.is_dir() and folder.name != "__pycache__"
    ),
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_sentence_has_to_be_read_twice(folder: str) -> None:
    assert [str(finding) for finding in findings(folder)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "model stands twice",
        "Columns that are dear to sort are fetched last.",
        "A command may take its time, but not for ever.",
        "Prices stored calls anew.",
        "The function gives the rows.",
        "What no top leads to is in a ring.",
        "Cheap. Who asks is known.",
        "the pattern is no text",
    ],
)
def test_a_sentence_of_the_kind_is_found(sentence: str) -> None:
    assert list(phrases_in(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "It gives up after a second.",
        "PB stands for petabyte.",
        "A stand-in for Grafana.",
        "What does it cost?",
        "An idea of what it is.",
    ],
)
def test_plain_sentences_pass(sentence: str) -> None:
    assert list(phrases_in(sentence)) == []


def test_a_docstring_of_a_function_begins_with_an_imperative() -> None:
    assert all(map(is_imperative, ["Return", "Pass", "Read", "Lower-case", "Proceed"]))
    assert not any(map(is_imperative, ["The", "Returns", "Rows", "What", "Whether", "Reading", "``x``"]))
