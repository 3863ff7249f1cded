"""SQL text cut into its statements.

Citus forwards the whole text of a message to its nodes for each command in it, so every statement has to be a message
of its own there.
"""

from __future__ import annotations

import re
from typing import Final

# A semicolon inside one of these ends no statement: a comment, a literal, a name, a body between dollar signs.
_WHOLE: Final = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)|(?P<end>;)",
    re.DOTALL,
)


def split_statements(sql: str) -> list[str]:
    """Return the statements of ``sql`` in order, each with the comments before it."""
    statements, begin = [], 0
    for found in _WHOLE.finditer(sql):
        if found["end"]:
            statements.append(sql[begin : found.end()].strip())
            begin = found.end()
    rest = sql[begin:].strip()
    return [*statements, rest] if re.sub(r"--[^\n]*", "", rest).strip() else statements
