"""The form of a case, and values that several cases use."""

from __future__ import annotations

import json
from typing import Any

Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Attributes of a span, its other fields, and the columns that its row must have."""

GPT = "gpt-4.1-mini"
OPENAI_BODY = {
    "model": "gpt-4.1-mini-2025-04-14",
    "usage": {
        "prompt_tokens": 700,
        "completion_tokens": 90,
        "total_tokens": 790,
        "prompt_tokens_details": {"cached_tokens": 256},
        "completion_tokens_details": {"reasoning_tokens": 64},
    },
}
CALL = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30,
}  # fmt: skip
"""A call that costs 0.0006 dollars."""
OPENAI_COUNTS = {"prompt_tokens": 700, "completion_tokens": 90, "cached_tokens": 256, "reasoning_tokens": 64}


def dumps(value: Any) -> str:
    return json.dumps(value)
