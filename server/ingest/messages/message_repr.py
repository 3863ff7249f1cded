"""Messages as Python writes LangChain's: ``content='It is sunny.' additional_kwargs={} id='run-1'``.

Instrumentations that turn the input and output of a chain into text with ``str`` send them. The class, and with it the
role, is not written: the fields that only one class has tell it.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Final

_CONTENT: Final = re.compile(r"""content=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?= \w+=|$)""")
_CALL_ID: Final = re.compile(r" tool_call_id='([^']{1,200})'")
_CALLS: Final = re.compile(r" tool_calls=(\[\{.*?\}\])(?= \w+=|$)")
_MARKS: Final = (" additional_kwargs=", " response_metadata=", " tool_call_id=")
_SIGNS_OF_AN_ANSWER: Final = (" usage_metadata=", " tool_calls=", " id='run-", " id='lc_run-")
_LONGEST: Final = 65_536


def is_message_repr(text: str) -> bool:
    """Return whether ``text`` looks like a message of LangChain as Python writes it."""
    return (
        text.startswith(("content='", 'content="')) and len(text) <= _LONGEST and any(mark in text for mark in _MARKS)
    )


def read_message_repr(text: str) -> dict[str, Any] | None:
    """Return the message as a chat message, None if it is something else."""
    found = _CONTENT.match(text)
    content = None if found is None else _literal(found[1])
    if found is None or content is None:
        return None
    rest = text[found.end() :]
    call_id = _CALL_ID.search(rest)
    if call_id is not None:
        return {"role": "tool", "tool_call_id": call_id[1], "content": content}
    if not any(sign in rest for sign in _SIGNS_OF_AN_ANSWER):
        return {"role": "user", "content": content}
    calls = _CALLS.search(rest)
    told = _literal(calls[1]) if calls is not None else None
    return {"role": "assistant", "content": content, **({"tool_calls": told} if isinstance(told, list) else {})}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
