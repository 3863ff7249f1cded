"""Random spans that collide on purpose: few distinct values, many missing, many equal sort keys."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from server.ingest.mapping.span_record import SpanRecord
from tests.span_factory import make_span

WORDS = ("alpha", "Beta", "100%", "a_b", "back\\slash", "東京都の天気", "مرحبا بالعالم", "naïve", "price", "x")
MODELS = ("gpt-4o", "gpt-4o-mini", "o1", "claude_3", None)
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)


def sample_spans(seed: int, count: int) -> list[SpanRecord]:
    """Return ``count`` spans of about ``count / 3`` traces, the same for the same seed."""
    chance = random.Random(seed)
    return [_sample_span(chance, number, count) for number in range(count)]


def _sample_span(chance: random.Random, number: int, count: int) -> SpanRecord:
    def maybe(value: Any) -> Any:
        return None if chance.random() < 0.3 else value

    text = " ".join(chance.choices(WORDS, k=3))
    attributes: dict[str, Any] = {}
    if chance.random() < 0.7:
        attributes["team"] = chance.choice(["search", "Ads", "100%"])
    if chance.random() < 0.7:
        attributes["size"] = chance.choice([1, 2.5, "2.5", True, None])
    return make_span(
        ts=START + timedelta(minutes=chance.randrange(20), microseconds=chance.randrange(3)),
        trace_id=f"{chance.randrange(count // 3):032x}",
        span_id=f"{number:016x}",
        parent_span_id=maybe(f"{chance.randrange(count):016x}"),
        model=chance.choice(MODELS),
        provider=maybe(chance.choice(["openai", "anthropic"])),
        status_code=chance.choice(["OK", "ERROR", "UNSET"]),
        error_type=maybe("Timeout"),
        error_message=maybe(chance.choice(WORDS)),
        session_id=maybe(f"s{chance.randrange(4)}"),
        user_id=maybe(f"u{chance.randrange(3)}"),
        total_tokens=maybe(chance.randrange(4) * 100),
        total_cost_usd=maybe(Decimal(chance.randrange(5)) / 10),
        duration_ms=float(chance.randrange(5)) / 4,
        ttft_ms=maybe(float(chance.randrange(3))),
        is_generation=chance.random() < 0.5,
        input_text=maybe(text),
        output_text=maybe(chance.choice(WORDS)),
        tags=chance.sample(["a", "b", "ü", "a b"], k=chance.randrange(4)),
        attributes=attributes,
    )
