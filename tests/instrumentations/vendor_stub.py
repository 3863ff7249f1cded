"""A local stand-in for the HTTP APIs of OpenAI and Anthropic, so that real clients have someone to talk to.

The answer depends on the request alone: the model ``fail-429`` or ``fail-500`` fails so,
``"stream": true`` streams server-sent events, offered tools are called. Usage numbers are
fixed (see the constants) so that tests can say what must arrive.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.instrumentations.other_vendors import OTHER_VENDORS

FIRST_TOKEN_DELAY_S = 0.05
ANSWER = "It is sunny in Paris."
CREATED = 1_780_000_000
_NUMBERS = itertools.count(1)

OPENAI_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 0},
}
ANTHROPIC_USAGE = {
    "input_tokens": 5,
    "output_tokens": 40,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 200,
}
EMBEDDING_USAGE = {"prompt_tokens": 8, "total_tokens": 8}

Json = dict[str, Any]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the tests say what went wrong."""

    def do_POST(self) -> None:
        request: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, path = str(request.get("model", "")), self.path.partition("?")[0]
        if "/openai/deployments/" in path:
            request["model"] = "gpt-4o"  # Azure names the model in its answer, whatever the deployment is called
        if model.startswith("fail-"):
            self._send(
                int(model.removeprefix("fail-")),
                {"type": "error", "error": {"type": "stub_error", "message": "the stub was asked to fail"}},
            )
        elif path.endswith("/chat/completions"):
            self._answer(request, _openai_answer, _openai_stream)
        elif path.endswith("/embeddings"):
            self._send(200, _embeddings(request))
        elif path.endswith("/messages"):
            self._answer(request, _anthropic_answer, _anthropic_stream)
        else:
            self._answer_as_another(path, request)

    def _answer_as_another(self, path: str, request: Json) -> None:
        found = next((answers for end, answers in OTHER_VENDORS.items() if path.endswith(end)), None)
        if found is None:
            self._send(404, {"error": {"message": f"no stub for {self.path}", "type": "not_found"}})
            return
        given = found[bool(request.get("stream"))](path, request)
        if isinstance(given, dict):
            time.sleep(FIRST_TOKEN_DELAY_S)
            self._send(200, given)
        else:
            self._stream(given)

    def _answer(self, request: Json, answer: Callable[[Json], Json], stream: Callable[[Json], Iterator[str]]) -> None:
        if not request.get("stream"):
            time.sleep(FIRST_TOKEN_DELAY_S)
            self._send(200, answer(request))
            return
        self._stream(stream(request))

    def _stream(self, chunks: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        time.sleep(FIRST_TOKEN_DELAY_S)
        for chunk in chunks:
            self.wfile.write(chunk.encode())
            self.wfile.flush()
            time.sleep(0.005)
        self.close_connection = True

    def _send(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status in (429, 500):
            self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(data)


def _wants_tool(request: Json) -> bool:
    """Return whether to call a tool: once, and not again after its result came back."""
    last = request["messages"][-1]
    content = last.get("content")
    came_back = last.get("role") == "tool" or (
        isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)
    )
    return bool(request.get("tools")) and not came_back


def _openai_model(request: Json) -> str:
    return "gpt-4o-2024-08-06" if request["model"] == "gpt-4o" else str(request["model"])


def _openai_answer(request: Json) -> Json:
    if _wants_tool(request):
        function = {"name": request["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
        message: Json = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
        reason = "tool_calls"
    else:
        message, reason = {"role": "assistant", "content": ANSWER}, "stop"
    return {
        "id": f"chatcmpl-stub-{next(_NUMBERS)}",
        "object": "chat.completion",
        "created": CREATED,
        "model": _openai_model(request),
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": OPENAI_USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_stub",
    }


def _openai_stream(request: Json) -> Iterator[str]:
    head = {
        "id": f"chatcmpl-stub-{next(_NUMBERS)}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": _openai_model(request),
    }
    for position, word in enumerate(ANSWER.split(" ")):
        delta = {"role": "assistant", "content": word} if position == 0 else {"content": f" {word}"}
        yield f"data: {json.dumps({**head, 'choices': [{'index': 0, 'delta': delta, 'finish_reason': None}]})}\n\n"
    yield f"data: {json.dumps({**head, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
    if (request.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': OPENAI_USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def _embeddings(request: Json) -> Json:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    data = [{"object": "embedding", "index": index, "embedding": [0.1, 0.2, 0.3]} for index in range(len(texts))]
    return {"object": "list", "data": data, "model": request["model"], "usage": EMBEDDING_USAGE}


def _anthropic_answer(request: Json) -> Json:
    if _wants_tool(request):
        content = [
            {"type": "text", "text": "I look it up."},
            {"type": "tool_use", "id": "toolu_1", "name": request["tools"][0]["name"], "input": {"city": "Paris"}},
        ]
        reason = "tool_use"
    else:
        content, reason = [{"type": "text", "text": ANSWER}], "end_turn"
    return {
        "id": f"msg_stub_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def _anthropic_stream(request: Json) -> Iterator[str]:
    def event(kind: str, **body: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n"

    message = {**_anthropic_answer(request), "content": [], "stop_reason": None}
    yield event("message_start", message={**message, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for position, word in enumerate(ANSWER.split(" ")):
        text = word if position == 0 else f" {word}"
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield event("content_block_stop", index=0)
    yield event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": ANTHROPIC_USAGE["output_tokens"]},
    )
    yield event("message_stop")


@contextmanager
def vendor_stub() -> Iterator[str]:
    """Run the stub on a free local port; yield its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with vendor_stub() as url:
        print(url, flush=True)
        sys.stdin.read()
