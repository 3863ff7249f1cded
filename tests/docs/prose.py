"""Phrases that a reader has to read twice, found in docstrings, comments, messages and pages.

``python -m tests.docs.prose`` lists them, with the rule each breaks (CONTRIBUTING.md, "The prose"); a test and a hook
before commits run it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FOLDERS = ("server", "datasource", "plugin", "dashboards", "tests")
COMMENT_MARKS = {".sql": "--", ".lua": "--", ".cfg": "#", ".toml": "#", ".yml": "#", ".yaml": "#", ".sh": "#"}
# An applied migration never changes, its comments included.
SKIPPED = ("tests/fixtures/", "tests/docs/prose.py", "tests/docs/test_prose.py", "server/schema/0")

# There the docstring of a check of a JSON value is what callers are told to send: "a list of at most 200 strings".
TOLD_TO_CALLERS = ("server/http/json_body.py", "server/rest/metric_request.py", "server/rest/score_routes.py")

# Phrase → what to write instead.
PHRASES = {
    r"\bstands?\b(?! for\b|-in\b)": "is, appears",
    r"\bgives\b(?! (up|way|back)\b)": "returns",
    r"\bdear(er|est)?\b": "expensive",
    r"\bfor ever\b": "forever, without end",
    r"\banew\b": "again",
    r"\bmade ready\b": "prepared",
    r"\b(says|decides|tells|knows|does|shows) (who|whose)\b": "put the subject before the verb",
    r"(?:^|[.;:] )(What|Who|Whose)\b(?![^.]*\?)(?! [^.|]*\|)": "begin with a noun, not with a clause",
    r"\bis no (expression|object|number|text|list|JSON)\b": "is not a …",
    r"\bin heaps\b": "in batches",
    r"\bto be had\b": "available",
}
_COMPILED = [(re.compile(pattern), advice) for pattern, advice in PHRASES.items()]

# A function's docstring begins with an imperative, so not with one of these, nor with a third person or a participle.
_NO_VERB = re.compile(
    "(The|An?|What|Who|Whose|Whom|Which|Whether|How|Where|When|Why|All|Every|Each|Any|Some|One|Two|Three|Both|No|None|"
    "Nothing|True|False|This|That|These|Those|Its?|Their|Our|His|Only|Not|As|In|On|At|For|From|With|Without|By|Of|To|"
    "Like|Same|Also|Whatever|Whoever)$"
)
_VERB_IN_S = re.compile("(Pass|Process|Compress|Decompress|Express|Address|Discuss|Press|Guess|Dismiss|Cross)$")
_VERB_IN_ED_OR_ING = re.compile("(Feed|Need|Seed|Speed|Shed|Embed|Exceed|Proceed|Bring|String)$")


@dataclass(frozen=True)
class Finding:
    """One phrase of one file."""

    place: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text!r}: {self.advice}"


def findings(*folders: str) -> list[Finding]:
    """Return all findings in files below ``folders`` (default: everywhere)."""
    found: list[Finding] = []
    for path in _files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(SKIPPED) or (folders and not name.startswith(folders)):
            continue
        text = path.read_text(encoding="utf-8")
        for line, prose in _prose_of(path, text):
            found += [Finding(f"{name}:{line}", hit, advice) for hit, advice in phrases_in(prose)]
        if path.suffix == ".py":
            found += _docstring_findings(name, ast.parse(text))
    return found


def phrases_in(prose: str) -> Iterator[tuple[str, str]]:
    """Yield each phrase of ``prose`` that a rule names, with the advice of the rule."""
    for pattern, advice in _COMPILED:
        for match in pattern.finditer(prose):
            yield prose[max(0, match.start() - 20) : match.end() + 30], advice


def is_imperative(first_word: str) -> bool:
    """Return whether a docstring that begins with ``first_word`` can be an imperative."""
    word = first_word.strip(":;,.")
    if not re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)?", word) or _NO_VERB.match(word):
        return False
    if word.endswith("s"):
        return bool(_VERB_IN_S.match(word))
    return not word.endswith(("ed", "ing")) or bool(_VERB_IN_ED_OR_ING.match(word))


def _files() -> Iterator[Path]:
    return (path for path in _all_files() if "node_modules" not in path.parts)


def _all_files() -> Iterator[Path]:
    for folder in PYTHON_FOLDERS:
        for suffix in (".py", ".sql", ".lua", ".md"):
            yield from sorted((ROOT / folder).rglob(f"*{suffix}"))
    yield from sorted((ROOT / "docs").rglob("*.md"))
    yield from (path for path in sorted(ROOT.iterdir()) if path.suffix in {".md", *COMMENT_MARKS})
    yield ROOT / "Makefile"
    yield ROOT / ".ci" / "run"


def _prose_of(path: Path, text: str) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py":
        yield from _python_prose(text)
    elif path.suffix == ".md":
        yield from _page_prose(text)
    else:
        mark = COMMENT_MARKS.get(path.suffix, "#")
        for number, line in enumerate(text.splitlines(), 1):
            _, found, comment = line.partition(mark)
            if found:
                yield number, comment.strip()


def _python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments and all strings: docstrings and messages alike."""
    tree = ast.parse(text)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            # A label or a help text may be a question without its mark: "Who calls whom", "What to measure".
            text = " ".join(node.value.split())
            yield node.lineno, text if node.value in docstrings else re.sub("^(What|Who|Whose)\\b", "The", text)


def _page_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page outside of examples and headings, a paragraph as one."""
    fenced, start = False, 0
    paragraph: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.lstrip().startswith("```")
        if fence or fenced or not line.strip() or line.startswith(("#", "|", "- ", "<!--")):
            if paragraph:
                yield start, " ".join(paragraph)
            paragraph = []
            if not (fence or fenced) and line.startswith(("|", "- ")):
                start, paragraph = number, [line.lstrip("-| ")]
        else:
            if not paragraph:
                start = number
            paragraph.append(line.strip())
        fenced ^= fence


def _docstring_findings(name: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        # A property and a fixture are values, __init__ documents its arguments, a test's name is its sentence, and the
        # docstring of a tool is sent to a model.
        is_value = any(word in decorators for word in ("property", "fixture", "tool"))
        if not text or is_value or node.name == "__init__" or node.name.startswith("test_"):
            continue
        if name in TOLD_TO_CALLERS and node.name.startswith(("is_", "are_", "_is_")):
            continue
        first = text.split()[0]
        if not is_imperative(first):
            yield Finding(f"{name}:{node.lineno}", text.splitlines()[0][:60], "begin with an imperative")


if __name__ == "__main__":
    everything = findings(*sys.argv[1:])
    print(*everything, sep="\n")
    sys.exit(bool(everything))
