"""Spans in which somebody says something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.span_factory import make_span

NOW = datetime.now(UTC) - timedelta(minutes=30)
EmbedAll = Callable[[], Awaitable[None]]


def spoken(asked: str, answered: str = "", **more: Any) -> Any:
    def message(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "parts": [{"type": "text", "content": text}]}

    return make_span(
        **{
            "ts": NOW,
            "input_messages": [message("user", asked)],
            "input_text": asked,
            "output_messages": [message("assistant", answered)] if answered else None,
            "output_text": answered or None,
            **more,
        }
    )
