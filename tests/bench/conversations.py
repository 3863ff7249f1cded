"""Agent conversations as OTLP: every call carries the whole history, as agents really send it.

A conversation belongs to one of a few agents of a tenant, with instructions and tools of its own. A turn is a trace:
the agent, a model call that asks for a tool, the tool, and a model call that answers. Turns of many conversations are
interleaved, so that a message comes again in later requests. Words follow Zipf's law; the same seed makes the same
words (ids are new each time).
"""

from __future__ import annotations

import json
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.ingest.otlp_payloads import attribute

TENANTS: Final = ("acme", "borealis", "cumulus")
AGENTS: Final = 3
"""Of each tenant."""
ACTIVE: Final = 40
"""Conversations of a tenant that go on at the same time."""
TOOLS: Final = ("find_order", "read_page", "search_notes", "send_reply")
_SYLLABLES: Final = (
    "ta", "re", "mi", "con", "ver", "sal", "den", "tor", "per", "lin", "ga", "mo", "es", "ti", "ble", "ran", "ous",
    "ing", "mant", "ic", "ly", "pre", "sta", "ner", "ol", "da", "cu", "fe", "hy", "wa",
)  # fmt: skip


class Prose:
    """Sentences of a vocabulary in which the frequency of a word falls with its rank."""

    def __init__(self, chance: random.Random, size: int = 12_000) -> None:
        self._chance = chance
        words = dict.fromkeys(_SYLLABLES)
        while len(words) < size:
            words["".join(chance.choice(_SYLLABLES) for _ in range(chance.randint(2, 4)))] = None
        self.words = list(words)
        self._weights = [0.0]
        for rank in range(size):
            self._weights.append(self._weights[-1] + 1 / (rank + 2.7))
        del self._weights[0]

    def text(self, length: int) -> str:
        """About ``length`` words, as sentences."""
        found = self._chance.choices(self.words, cum_weights=self._weights, k=length)
        sentences = []
        while found:
            cut = self._chance.randint(6, 18)
            sentence, found = found[:cut], found[cut:]
            sentences.append(" ".join(sentence).capitalize() + self._chance.choice((".", ".", ".", "?", ":")))
        return " ".join(sentences)


@dataclass
class Conversation:
    """One conversation: what was said so far, and how many turns it will have."""

    tenant: str
    agent: int
    turns: int
    session: str = field(default_factory=lambda: f"conversation-{secrets.token_hex(6)}")
    messages: list[dict[str, Any]] = field(default_factory=list)
    turn: int = 0


def _said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


class Conversations:
    """Turns of conversations of all tenants."""

    def __init__(self, seed: int, *, turns: tuple[int, int] = (2, 10), active: int = ACTIVE) -> None:
        """``turns``: fewest and most turns of a conversation."""
        self._chance = random.Random(seed)
        self.prose = Prose(self._chance)
        self._turns = turns
        self._active: dict[str, list[Conversation]] = {
            tenant: [self._begin(tenant) for _ in range(active)] for tenant in TENANTS
        }
        self._instructions = {(tenant, agent): self.prose.text(160) for tenant in TENANTS for agent in range(AGENTS)}
        self._tools = {key: self._tool_definitions() for key in self._instructions}

    def request(self, tenant: str, spans: int) -> bytes:
        """Return at least ``spans`` spans of ``tenant``: whole turns of conversations that take their turns."""
        request, members = self._request(tenant)
        while len(members.spans) < spans:
            self.turn(members, self._next(tenant))
        return request.SerializeToString()

    def next_turns(self, tenant: str) -> bytes:
        """Return the next turn of each conversation of ``tenant``."""
        request, members = self._request(tenant)
        for talk in self._active[tenant]:
            self.turn(members, talk)
        return request.SerializeToString()

    def _request(self, tenant: str) -> tuple[ExportTraceServiceRequest, Any]:
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        for key, value in (
            ("service.name", f"{tenant}-assistant"),
            ("service.version", "2026.11.3"),
            ("deployment.environment.name", "production"),
            ("telemetry.sdk.name", "opentelemetry"),
            ("telemetry.sdk.language", "python"),
            ("telemetry.sdk.version", "1.45.2"),
            ("host.name", f"worker-{self._chance.randrange(4)}.{tenant}.example"),
            ("process.runtime.description", "3.12.7 (main, Oct  1 2026, 09:14:21) [GCC 13.3.0]"),
        ):
            resource.resource.attributes.append(attribute(key, value))
        members = resource.scope_spans.add()
        members.scope.name = "agent.tracer"
        return request, members

    def turn(self, members: Any, talk: Conversation) -> None:
        """Add the spans of the next turn of ``talk``."""
        chance, talk.turn = self._chance, talk.turn + 1
        trace_id, root, now = secrets.token_bytes(16), secrets.token_bytes(8), time.time_ns() - 9_000_000_000
        common = {"gen_ai.conversation.id": talk.session, "user.id": f"user-{chance.randrange(2000)}"}

        def span(name: str, start_ms: int, end_ms: int, attributes: dict[str, Any], *, is_root: bool = False) -> None:
            added = members.spans.add(
                trace_id=trace_id,
                span_id=root if is_root else secrets.token_bytes(8),
                parent_span_id=b"" if is_root else root,
                name=name,
                kind=1 if is_root else 3,
                start_time_unix_nano=now + start_ms * 1_000_000,
                end_time_unix_nano=now + end_ms * 1_000_000,
            )
            for key, value in {**common, **attributes}.items():
                added.attributes.append(attribute(key, value))

        agent = f"agent-{talk.agent}"
        span(f"invoke_agent {agent}", 0, 8000, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent},
             is_root=True)  # fmt: skip
        question = _said("user", self.prose.text(chance.randint(20, 90)))
        if chance.random() < 0.05:
            link = f"https://files.example/{secrets.token_hex(8)}.png"
            question["parts"].append({"type": "uri", "modality": "image", "uri": link})
        talk.messages.append(question)
        tool, call_id = chance.choice(TOOLS), f"call_{secrets.token_hex(6)}"
        arguments = {"query": self.prose.text(6), "limit": chance.randrange(1, 20)}
        call = {"type": "tool_call", "id": call_id, "name": tool, "arguments": arguments}
        span(f"chat {agent}", 100, 2100, self._call(talk, {"role": "assistant", "parts": [call]}, "tool_calls"))
        talk.messages.append({"role": "assistant", "parts": [call]})
        found = [
            {"title": self.prose.text(5), "text": self.prose.text(chance.randint(25, 80))}
            for _ in range(chance.randint(1, 3))
        ]
        result = json.dumps({"results": found})
        span(
            f"execute_tool {tool}", 2200, 3000,
            {
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.call.id": call_id,
                "gen_ai.tool.call.arguments": json.dumps(arguments), "gen_ai.tool.call.result": result,
            },
        )  # fmt: skip
        response = {"type": "tool_call_response", "id": call_id, "response": result}
        talk.messages.append({"role": "tool", "parts": [response]})
        answer = _said("assistant", self.prose.text(chance.randint(50, 180)))
        span(f"chat {agent}", 3100, 7900, self._call(talk, answer, "stop"))
        talk.messages.append(answer)

    def _next(self, tenant: str) -> Conversation:
        talks = self._active[tenant]
        place = self._chance.randrange(len(talks))
        if talks[place].turn >= talks[place].turns:
            talks[place] = self._begin(tenant)
        return talks[place]

    def _begin(self, tenant: str) -> Conversation:
        return Conversation(tenant, self._chance.randrange(AGENTS), self._chance.randint(*self._turns))

    def _call(self, talk: Conversation, answer: dict[str, Any], reason: str) -> dict[str, Any]:
        size = sum(len(str(message)) for message in talk.messages)
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.response.id": f"resp_{secrets.token_hex(8)}",
            "gen_ai.usage.input_tokens": size // 4,
            "gen_ai.usage.output_tokens": 120,
            "gen_ai.system_instructions": json.dumps(
                [{"type": "text", "content": self._instructions[talk.tenant, talk.agent]}]
            ),
            "gen_ai.tool.definitions": self._tools[talk.tenant, talk.agent],
            "gen_ai.input.messages": json.dumps(talk.messages),
            "gen_ai.output.messages": json.dumps([{**answer, "finish_reason": reason}]),
        }

    def _tool_definitions(self) -> str:
        schema = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}
        return json.dumps(
            [
                {"type": "function", "name": name, "description": self.prose.text(20), "parameters": schema}
                for name in TOOLS
            ]
        )
