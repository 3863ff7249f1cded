"""Objects as Python writes those of dataclasses and Pydantic: ``ToolCall(tool_name='map', tool_kwargs={'id': '7'})``.

Haystack's messages and LlamaIndex's events come like this where an instrumentation turns arguments and results of a
function into text. They have the usage of a call, and names and arguments of tools, that no attribute tells.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Final

_HEAD: Final = re.compile(r"[A-Z]\w{1,60}\((?:\)|\w{1,60}=)")
_MEMBER: Final = re.compile(r"<\w{1,60}(?:\.\w{1,60}){1,3}: (\d{1,9}|'[^']{0,200}')>")
"""A member of an enumeration, of which the value is read."""
_LONGEST: Final = 32_768


def is_object_repr(text: str) -> bool:
    """Return whether ``text`` looks like one object with named fields as Python writes it."""
    return text.endswith(")") and len(text) <= _LONGEST and _HEAD.match(text) is not None


def read_object_repr(text: str) -> dict[str, Any] | None:
    """Return the fields of the object, without the underscores before their names; None if it is something else, such
    as an object that was cut, or one with a field that Python cannot read back.

    >>> read_object_repr("ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(text='How far?')])")
    {'role': 'user', 'content': [{'text': 'How far?'}]}
    """
    try:
        return _object(ast.parse(_MEMBER.sub(r"\1", text), mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _object(node: ast.AST) -> dict[str, Any] | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    return {field.arg.lstrip("_"): _value(field.value) for field in node.keywords if field.arg is not None}


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        fields = _object(node)
        if fields is None:
            raise ValueError("a call that makes no object of named fields")
        return fields
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            str(_value(key)): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key is not None
        }
    return ast.literal_eval(node)
