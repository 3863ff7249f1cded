"""The dialect of LLM telemetry that a span speaks, by the rules of ``dialects/detection.json``.

The dialect is stored with the row, so that users can see why a column is empty, and it decides the token rule of
``token_semantics``. It does not limit which attributes are read.
"""

from __future__ import annotations

from collections.abc import Container

from server.ingest.dialects.attribute_table import detection_rules, read_table
from server.text.remembered import remembered

UNKNOWN: str = read_table("detection.json")["unknown"]


@remembered(1024)
def _scope_marks(scope_name: str) -> int:
    marks = 0
    for bit, rule in enumerate(detection_rules()):
        if scope_name in rule.scopes:
            marks |= 1 << bit
    return marks


_NAME_MARKS: dict[str, int] = {name: 1 << bit for bit, rule in enumerate(detection_rules()) for name in rule.names}


def detect_dialect(marks: int, scope_name: str, span_name: str, keys: Container[str]) -> str:
    """Return the first rule that matches, given the marks of a span's keys (``KeyMeaning.marks``)."""
    marks |= _NAME_MARKS.get(span_name, 0)
    if scope_name:
        marks |= _scope_marks(scope_name)
    rules = detection_rules()
    while marks:
        lowest = marks & -marks
        rule = rules[lowest.bit_length() - 1]
        if not rule.unless or not any(key in keys for key in rule.unless):
            return rule.dialect
        marks ^= lowest
    return UNKNOWN
