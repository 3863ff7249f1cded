"""Fills a database with millions of believable spans, quickly: COPY first, indexes and summaries after.

    python -m tests.bench.load --database-url postgresql://… --spans 1000000

Traces of three spans (an agent, a model call, a tool), spread evenly over the days up to now, with a
vocabulary in which few words are common and many are rare. The same seed makes the same spans.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

PROJECT = "bench"
CHUNK = 20_000
PROVIDERS = {
    "openai": ("gpt-4o", "gpt-4o-mini", "o1"),
    "anthropic": ("claude-sonnet", "claude-haiku"),
    "google": ("g2",),
}
SERVICES = ("checkout", "search", "support", "batch", "agents")
COLUMNS = (
    "project_id", "ts", "trace_id", "span_id", "parent_span_id", "span_name", "span_kind", "service_name",
    "environment", "provider", "model", "operation_type", "is_generation", "input_text", "output_text",
    "prompt_tokens", "completion_tokens", "total_tokens", "total_cost_usd", "cost_source", "duration_ms", "ttft_ms",
    "status_code", "error_type", "user_id", "session_id", "tags", "attributes", "dialect", "dim_id", "version",
    "search_vector",
)  # fmt: skip

CREATE_SUMMARIES = """
INSERT INTO trace_summaries (project_id, trace_id, start_ts, end_ts, root_span_id, root_span_name, service_name,
    environment, session_id, user_id, span_count, generation_count, error_count, prompt_tokens, completion_tokens,
    total_tokens, total_cost_usd, head_rank, session_rank, user_rank)
SELECT project_id, trace_id, min(ts), max(ts + make_interval(secs => duration_ms / 1000)),
    min(span_id) FILTER (WHERE parent_span_id IS NULL), min(span_name) FILTER (WHERE parent_span_id IS NULL),
    min(service_name), min(environment), min(session_id), min(user_id), count(*),
    count(*) FILTER (WHERE is_generation), count(*) FILTER (WHERE status_code = 'ERROR'),
    coalesce(sum(prompt_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(completion_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(total_tokens) FILTER (WHERE is_generation), 0),
    coalesce(sum(total_cost_usd) FILTER (WHERE is_generation), 0), '0', '0', '0'
FROM llm_traces WHERE project_id = $1 GROUP BY project_id, trace_id
"""


class Vocabulary:
    """Words of which a few are common and most are rare."""

    def __init__(self, chance: random.Random, size: int = 20_000) -> None:
        self.words = [f"{chance.choice('bcdfgklmnprst')}{chance.choice('aeiou')}{number:x}" for number in range(size)]
        self.chance = chance

    def text(self, length: int) -> str:
        size = len(self.words)
        return " ".join(self.words[int(size * self.chance.random() ** 3)] for _ in range(length))


def tsvector(text: str) -> str:
    """Return ``text`` of plain words as the literal of a tsvector, so that loading does not wait for the parser."""
    places: dict[str, list[str]] = defaultdict(list)
    for place, word in enumerate(text.split(), start=1):
        places[word].append(str(place))
    return " ".join(f"{word}:{','.join(found)}" for word, found in places.items())


def rows(spans: int, days: int, end: datetime, dims: dict[tuple[str, str, str], int], seed: int) -> Iterator[list[Any]]:
    """Yield the spans, oldest first, in the order of :data:`COLUMNS`."""
    chance = random.Random(seed)
    vocabulary = Vocabulary(chance)
    step = timedelta(days=days) / spans
    for number in range(spans):
        trace, place = divmod(number, 3)
        if place == 0:
            service = chance.choice(SERVICES)
            provider = chance.choice(list(PROVIDERS))
            model = chance.choice(PROVIDERS[provider])
            session = None if trace % 5 == 0 else f"session-{trace // 4:x}"
            user = f"user-{int(5000 * chance.random() ** 2)}"
        ts = end - timedelta(days=days) + number * step
        is_generation = place == 1
        failed = chance.random() < 0.03
        prompt, answer = (vocabulary.text(80), vocabulary.text(40)) if is_generation else (vocabulary.text(10), None)
        tokens = (chance.randrange(50, 4000), chance.randrange(10, 800)) if is_generation else None
        duration = chance.lognormvariate(6, 1)
        yield [
            PROJECT,
            ts.isoformat(),
            f"{trace:032x}",
            f"{number:016x}",
            None if place == 0 else f"{number - place:016x}",
            ("agent", f"chat {model}", "lookup")[place],
            "client" if is_generation else "internal",
            service,
            "production" if trace % 10 else "staging",
            provider if is_generation else None,
            model if is_generation else None,
            ("agent", "chat", "tool")[place],
            is_generation,
            prompt,
            answer,
            *(tokens or (None, None)),
            sum(tokens) if tokens else None,
            f"{(tokens[0] * 2 + tokens[1] * 8) / 1e6:.7f}" if tokens else None,
            "computed" if is_generation else "none",
            round(duration, 3),
            round(duration / 4, 3) if is_generation else None,
            "ERROR" if failed else "OK",
            chance.choice(("Timeout", "RateLimit")) if failed else None,
            user,
            session,
            f"{{{chance.choice(('red', 'green', 'blue'))}}}",
            json.dumps({"team": chance.choice(("a", "b", "c")), "step": place}),
            "genai",
            dims[(provider, model, service) if is_generation else ("", "", service)],
            int(ts.timestamp() * 1e6 + duration * 1000),
            tsvector(f"{prompt} {answer or ''}"),
        ]


def copy_text(values: list[Any]) -> bytes:
    """Return one line of COPY's text format."""
    shown = ("\\N" if value is None else str(value).replace("\\", "\\\\") for value in values)
    return ("\t".join(shown) + "\n").encode()


async def intern_dimensions(connection: asyncpg.Connection) -> dict[tuple[str, str, str], int]:
    """Return the dim_id of each combination of provider, model and service."""
    found: dict[tuple[str, str, str], int] = {}
    pairs = [(provider, model) for provider, models in PROVIDERS.items() for model in models]
    for provider, model in [*pairs, ("", "")]:
        for service in SERVICES:
            found[provider, model, service] = await connection.fetchval(
                "INSERT INTO span_dimensions (project_id, provider, model, service_name, operation_type, environment,"
                " status_code, is_generation) VALUES ($1, $2, $3, $4, $5, 'production', 'OK', $6) RETURNING dim_id",
                PROJECT,
                provider,
                model,
                service,
                "chat" if model else "tool",
                bool(model),
            )
    return found


async def load(url: str, spans: int, *, days: int = 30, seed: int = 1, say: Any = print) -> datetime:
    """Load ``spans`` into the project ``bench`` of a migrated, otherwise empty database; return the end of their time.

    ``url`` must be that of the owner: row-level security is not in its way.
    """
    started = time.perf_counter()
    end = datetime.now(UTC)
    connection = await asyncpg.connect(url, server_settings={"maintenance_work_mem": "512MB"})
    try:
        await connection.execute("INSERT INTO projects (project_id, name) VALUES ($1, $1)", PROJECT)
        for week in range(days // 7 + 2):
            await connection.execute("SELECT ensure_trace_partition($1)", end - timedelta(weeks=week))
        dims = await intern_dimensions(connection)
        definitions = [
            record["definition"]
            for record in await connection.fetch(
                "SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i"
                " JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 'llm_traces'::regclass"
                " AND NOT i.indisprimary"
            )
        ]
        for definition in definitions:
            await connection.execute(f"DROP INDEX {definition.split(' INDEX ')[1].split(' ')[0]}")

        async def lines() -> Any:
            chunk: list[bytes] = []
            for number, values in enumerate(rows(spans, days, end, dims, seed), start=1):
                chunk.append(copy_text(values))
                if len(chunk) == CHUNK:
                    yield b"".join(chunk)
                    chunk = []
                    if number % 200_000 == 0:
                        say(f"  {number:,} spans after {time.perf_counter() - started:.0f} s")
            yield b"".join(chunk)

        await connection.copy_to_table("llm_traces", source=lines(), columns=COLUMNS, format="text")
        for definition in definitions:
            # On the parent alone ("ON ONLY") an index would stay invalid; this builds it on each partition.
            await connection.execute(definition.replace(" ON ONLY ", " ON "))
        await connection.execute(CREATE_SUMMARIES, PROJECT)
        await connection.execute("VACUUM (ANALYZE) llm_traces")
        await connection.execute("VACUUM (ANALYZE) trace_summaries")
    finally:
        await connection.close()
    say(f"  {spans:,} spans loaded in {time.perf_counter() - started:.0f} s")
    return end


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    arguments = parser.parse_args()
    asyncio.run(load(arguments.database_url, arguments.spans, days=arguments.days))


if __name__ == "__main__":
    main()
