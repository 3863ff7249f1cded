"""The text of a message that is stored as a part."""

from __future__ import annotations

from typing import Any


def text_of_parts(inner: Any) -> Any:
    """Return the text that the database's function part_text() derives from the ``parts`` of a message; other texts are
    stored."""
    if not inner:
        return None
    first = inner[0]
    if first.get("type") != "tool_call_response":
        return first.get("content")
    name, response = first.get("id", ""), first.get("response")
    return f"[tool_result {name}] {response}" if isinstance(name, str) and isinstance(response, str) else None
