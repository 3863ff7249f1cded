"""Answers of further vendors' APIs for the stub: Gemini, Bedrock's Converse, OpenAI's Responses.

Each is a function from path and request to what is sent: a document, or the events of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
ANSWER = "It is sunny in Paris."

GEMINI_USAGE = {
    "promptTokenCount": 120,
    "cachedContentTokenCount": 100,
    "candidatesTokenCount": 30,
    "totalTokenCount": 150,
}
BEDROCK_USAGE = {"inputTokens": 20, "outputTokens": 30, "totalTokens": 150, "cacheReadInputTokens": 100}
RESPONSES_USAGE = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 100},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 150,
}


def gemini(path: str, request: Json) -> Json:
    """Return an answer of generateContent."""
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": ANSWER}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": GEMINI_USAGE,
        "modelVersion": path.rpartition("/")[2].partition(":")[0],
        "responseId": "gemini-stub-1",
    }


def gemini_stream(path: str, request: Json) -> Iterator[str]:
    """Yield the events of streamGenerateContent: one."""
    yield f"data: {json.dumps(gemini(path, request))}\r\n\r\n"


def bedrock(path: str, request: Json) -> Json:
    """Return an answer of Converse."""
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}},
        "stopReason": "end_turn",
        "usage": BEDROCK_USAGE,
        "metrics": {"latencyMs": 50},
    }


def responses(path: str, request: Json) -> Json:
    """Return an answer of the Responses API."""
    text = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
    message = {"id": "msg_stub_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": "resp_stub_1",
        "object": "response",
        "created_at": 1_780_000_000,
        "status": "completed",
        "model": request["model"],
        "output": [message],
        "usage": RESPONSES_USAGE,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }


def responses_stream(path: str, request: Json) -> Iterator[str]:
    """Yield the events of a streamed answer of the Responses API."""
    whole = responses(path, request)
    item, part = whole["output"][0], whole["output"][0]["content"][0]
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **at, "delta": ANSWER, "logprobs": []},
        {"type": "response.output_text.done", **at, "text": ANSWER, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"


Answer = Callable[[str, Json], Any]
OTHER_VENDORS: dict[str, tuple[Answer, Answer]] = {
    ":generateContent": (gemini, gemini_stream),
    ":streamGenerateContent": (gemini_stream, gemini_stream),
    "/converse": (bedrock, bedrock),
    "/responses": (responses, responses_stream),
}
"""By the end of the path (without its query): the answer, and the answer to ``"stream": true``."""
