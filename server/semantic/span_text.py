"""The text of a span that is embedded: what the conversation added in it.

A call carries the whole conversation so far; embedding that again at every turn would cost the most for what is known
already, and make all turns of a conversation look alike. So the text is what users said since the model's last answer,
and the model's answer. Words of the system, tool calls, their results, reasoning and media are left out, and so are
spans that carry no conversation (:data:`SILENT_OPERATIONS`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from server.ingest.messages.coercion import without_data

NEEDED_FIELDS: Final = ("operation_type", "input_text", "input_messages", "output_text", "output_messages")
"""Fields of a row of a list that the text is made of."""
SILENT_OPERATIONS: Final = frozenset(
    {"tool", "embedding", "retrieval", "rerank", "memory", "guardrail", "evaluator", "image", "video", "speech"}
)
"""Operations whose inputs and outputs are traffic between programs, or no text."""
HEAD, TAIL = 900, 300
"""Characters that are kept of a long side: people say what they want at the beginning, and decide at the end."""
_SHORTEST: Final = 2


def added_text(row: Mapping[str, Any]) -> str | None:
    """Return the text of ``row``, which has :data:`NEEDED_FIELDS`; None if there is nothing to embed."""
    if row["operation_type"] in SILENT_OPERATIONS:
        return None
    asked = _said(row["input_messages"], row["input_text"], _new_questions)
    answered = _said(row["output_messages"], row["output_text"], _answers)
    text = "\n".join(part for part in (_shortened(asked), _shortened(answered)) if part)
    return text if sum(map(str.isalnum, text[: HEAD + TAIL])) >= _SHORTEST else None


def text_hash(text: str) -> bytes:
    """Return what tells equal texts."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _said(messages: Any, text: str | None, choose: Any) -> str:
    if isinstance(messages, list) and messages:
        return "\n".join(filter(None, map(_words, choose(messages))))
    return without_data(text or "")


def _new_questions(messages: Sequence[Any]) -> list[Any]:
    """Return the messages of users after the last one of the model."""
    last = max((place for place, message in enumerate(messages) if _role(message) == "assistant"), default=-1)
    return [message for message in messages[last + 1 :] if _role(message) == "user"]


def _answers(messages: Sequence[Any]) -> list[Any]:
    return [message for message in messages if _role(message) == "assistant"]


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _words(message: Mapping[str, Any]) -> str:
    """Return the texts of a message, without its other parts."""
    parts = message.get("parts")
    found = [
        part["content"]
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str)
    ]
    return without_data("\n".join(found))


def _shortened(text: str) -> str:
    """Return ``text`` in one line, of a long one the head and the tail."""
    # A slice first: the middle of a text of megabytes is not looked at.
    if len(text) > 8 * (HEAD + TAIL):
        text = f"{text[: 4 * HEAD]} {text[-4 * TAIL :]}"
    line = " ".join(text.split())
    if len(line) <= HEAD + TAIL:
        return line
    return f"{line[:HEAD].rpartition(' ')[0] or line[:HEAD]} … {line[-TAIL:].partition(' ')[2] or line[-TAIL:]}"
