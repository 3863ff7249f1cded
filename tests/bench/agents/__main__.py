"""Agent conversations, whose every call carries its history: ``make bench-agents`` (ARGS="--base ../other-worktree").

Sends the turns of many conversations of several tenants over OTLP (:mod:`tests.bench.conversations`) to a server with
authentication, pricing and full text on, which answers after COMMIT, and prints

    spans/s and MB/s of what was received, p50 and p99 of a request
    bytes on disk (all tables and indexes, after VACUUM) and bytes of WAL for each byte received; "kept": without the
    tables whose rows go within a day, such as the feed of live tails
    p50 and p99 of reads: a list of 50 with texts, searches (a common word, a rare one, none, a phrase), one trace with
    its contents, an export; over Jaeger's API one trace, and the newest 20 of a service and of a user
    processor time of the server and of PostgreSQL for a span and, as a median, for an answer, which says more than
    rates on a machine that others use

The layouts ``shared`` and ``inline`` of content run beside each other (``--layouts``), each on a database of its own,
and with ``--base DIR`` the program of another worktree, in the layout ``--base-layout``: all take the same requests in
turns, and the last column is the ratio of the first to the second. The spans arrive in rounds, so that the two are
measured at the same time of a noisy day.

``--victoria-traces BINARY`` runs that program beside them: it gets the same requests and is asked over Jaeger's API.
Its answer to a request does not mean that the spans would survive a loss of power, ours comes after COMMIT; its bytes
are those of its files after a flush and a merge. ``--copies N`` adds N copies of all spans before the reads, past the
server but through the tables' own indexes, so that they meet a large store.

``--where`` prints where the bytes of a span are, table by table and index by
index, and what its WAL is of. After a checkpoint the first change of a page puts its image into the WAL; a run is too
short for that unless ``--checkpoints`` is given. ``--growth`` stores conversations of 20 turns only and prints the
bytes of a span at turn 2 and at turn 20.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from server.embedded import EmbeddedServices
from tests.bench.agents.peers import VictoriaTraces
from tests.bench.agents.side import Side
from tests.bench.agents.store import Question, Store
from tests.bench.conversations import TENANTS, Conversations
from tests.bench.http_load import LoadConnection
from tests.bench.ingest import settle_text

HERE = Path(__file__).parents[3]
SPANS = 100
CLIENTS = 12


async def questions(side: Side, talks: Conversations, each: int) -> list[Question]:
    """Return reads of all kinds, ``each`` times; a new start of the range keeps every answer out of caches."""
    chance = random.Random(7)
    words, found = talks.prose.words, []
    phrase = await phrases(side)
    traces = await side.owner.fetch("SELECT project_id, trace_id FROM trace_summaries ORDER BY trace_id LIMIT $1", each)
    for number in range(each):
        tenant = TENANTS[number % len(TENANTS)]
        since = f"from={int(time.time() * 1000) - 86_400_000 - number}"
        lists = f"/api/v1/traces?{since}&limit=50"
        found += [
            Question("list of 50", tenant, f"{lists}&fields=core,io", must_find=True),
            Question("search, common word", tenant, f"{lists}&search={chance.choice(words[20:60])}", must_find=True),
            Question("search, rare word", tenant, f"{lists}&search={chance.choice(words[-2000:])}"),
            Question("search, two words", tenant, f"{lists}&search={'+'.join(chance.sample(words[200:2000], 2))}"),
            Question("search, no hit", tenant, f"{lists}&search=nowhere{number}"),
            Question("search, phrase", tenant, f"{lists}&search={quote(chr(34) + phrase[tenant] + chr(34))}"),
            Question("one trace", traces[number]["project_id"], f"/api/v1/traces/{traces[number]['trace_id']}"),
        ]
        if number % 10 == 0:
            found.append(Question("export of 1,000", tenant, f"/api/v1/traces?{since}&limit=1000&fields=all"))
    return found


async def jaeger_questions(side: Side, store: Store, each: int) -> list[Question]:
    """Return what ``store`` is asked over Jaeger's API, about the traces that ``side`` has too."""
    chance = random.Random(8)
    traces = await side.owner.fetch(
        "SELECT project_id, trace_id FROM trace_summaries ORDER BY trace_id DESC LIMIT $1", each
    )
    found = []
    for number in range(each):
        tenant, now = TENANTS[number % len(TENANTS)], int(time.time() * 1_000_000)
        search = (
            f"{store.jaeger_path}/api/traces?service={tenant}-assistant&limit=20"
            f"&start={now - 21_600_000_000 - number}&end={now}"
        )
        tags = quote(orjson.dumps({"user.id": f"user-{chance.randrange(2000)}"}))
        one = f"{store.jaeger_path}/api/traces/{traces[number]['trace_id']}"
        found += [
            Question("Jaeger, one trace", traces[number]["project_id"], one, must_find=True),
            Question("Jaeger, 20 of a service", tenant, search, must_find=True),
            Question("Jaeger, 20 of a user", tenant, f"{search}&tags={tags}"),
        ]
    return found


async def phrases(side: Side) -> dict[str, str]:
    """Return three words of an answer of each tenant, read from the list."""
    found = {}
    for tenant in TENANTS:
        async with LoadConnection(side.base_url, side.headers(tenant, "application/json")) as connection:
            path = "/api/v1/traces?operation_type=chat&finish_reason=stop&fields=output_text&limit=1"
            _, body = await connection.get(path)
        text = orjson.loads(body)["data"][0]["output_text"]
        found[tenant] = " ".join(text.replace(".", "").split()[3:6]).lower()
    return found


async def compare(sides: list[Side], peers: list[VictoriaTraces], arguments: argparse.Namespace) -> None:
    """Ingest in rounds that take turns, then reads in turns; print the table."""
    stores: list[Store] = [*sides, *peers]
    for side in sides:
        await side.open()
    talks = Conversations(11)
    for number in range(arguments.rounds):
        requests = []
        for place in range(arguments.requests):
            tenant = TENANTS[place % len(TENANTS)]
            requests.append((tenant, talks.request(tenant, SPANS)))
        for store in stores if number % 2 else list(reversed(stores)):
            if arguments.checkpoints and isinstance(store, Side):
                await store.owner.execute("CHECKPOINT")
            await store.send(requests, arguments.clients)
    for side in sides:
        await side.settle(where=arguments.where)
    for peer in peers:
        await peer.settle(sides[0].spans)
    for side in sides if arguments.copies else []:
        await side.grow(arguments.copies)
    await ask_in_turns({side: await questions(sides[0], talks, arguments.reads) for side in sides})
    await ask_in_turns({store: await jaeger_questions(sides[0], store, arguments.reads) for store in stores})
    table([(store.name, store.report()) for store in stores])
    print(f"\n{sides[0].spans:,} spans, {sides[0].received / sides[0].spans:,.0f} bytes of OTLP a span")


async def ask_in_turns(questions_of: dict[Any, list[Question]], some: int = 8) -> None:
    """Ask each store its questions, ``some`` at a time."""
    for start in range(0, max(map(len, questions_of.values())), some):
        for store, asked in questions_of.items():
            await store.read(asked[start : start + some])


async def grow(sides: list[Side], arguments: argparse.Namespace) -> None:
    """Print the bytes of a span by the turn it belongs to: the conversations go on side by side, turn after turn."""
    for side in sides:
        await side.open()
    talks = Conversations(13, turns=(20, 20), active=arguments.talks)
    figures: dict[str, dict[str, float]] = {side.name: {} for side in sides}
    for turn in range(1, 21):
        requests = [(tenant, talks.next_turns(tenant)) for tenant in TENANTS]
        for side in sides:
            before = await side.size()
            await side.send(requests, len(TENANTS))
            await settle_text(side.owner, "llm_traces")
            if turn in (2, 20):
                spans = await side.owner.fetchval("SELECT count(*) FROM llm_traces") / turn
                figures[side.name][f"bytes a span of turn {turn}"] = (await side.size() - before) / spans
    for found in figures.values():
        found["turn 20 to turn 2"] = found["bytes a span of turn 20"] / found["bytes a span of turn 2"]
    table(list(figures.items()))


def table(sides: list[tuple[str, dict[str, float]]]) -> None:
    """Print figures beside each other, and the ratio of the first to the second."""
    names = [name for name, _ in sides]
    rule = "---|" * (len(sides) + 1 + (len(sides) > 1))
    print(f"\n| | {' | '.join(names)} |{' ratio |' if len(sides) > 1 else ''}\n|{rule}")
    for label, value in sides[0][1].items():
        values = [found.get(label) for _, found in sides]
        ratio = f" {value / values[1]:.2f} |" if len(values) > 1 and values[1] else " |" if len(values) > 1 else ""
        print(f"| {label} | {' | '.join(map(shown, values))} |{ratio}")


def shown(value: float | None) -> str:
    """Return a figure as text; a store may not have it."""
    if value is None:
        return "–"
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def main(arguments: argparse.Namespace) -> None:
    """Start private services and servers, measure, print."""
    builds = [(layout, HERE, layout) for layout in arguments.layouts]
    if arguments.base:
        builds.append(("base", arguments.base.resolve(), arguments.base_layout))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="observatory-bench-")))
        folder.chmod(0o755)
        sides = []
        for name, code, layout in builds:
            urls = stack.enter_context(EmbeddedServices(folder / name))
            side = Side(name, code, layout, urls, folder)
            stack.enter_context(side.serving(arguments.workers))
            sides.append(side)
        peers = [VictoriaTraces(binary, folder) for binary in (arguments.victoria_traces,) if binary]
        for peer in peers:
            stack.enter_context(peer.serving())
        asyncio.run(grow(sides, arguments) if arguments.growth else compare(sides, peers, arguments))


def parse_arguments() -> Any:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a worktree with the build to compare with")
    parser.add_argument(
        "--layouts", nargs="+", choices=["shared", "inline"], default=["shared", "inline"], help="of this build"
    )
    parser.add_argument("--base-layout", choices=["shared", "inline"], default="inline", help="of that build")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=30, help="requests of 100 spans a round")
    parser.add_argument("--reads", type=int, default=30, help="questions of each kind")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--where", action="store_true", help="where the bytes of a span are")
    parser.add_argument("--checkpoints", action="store_true", help="one before each round, as time brings them")
    parser.add_argument("--growth", action="store_true", help="bytes of a span by turn instead")
    parser.add_argument("--talks", type=int, default=25, help="conversations of a tenant, with --growth")
    parser.add_argument("--victoria-traces", type=Path, help="a binary of VictoriaTraces, which is run beside")
    parser.add_argument("--copies", type=int, default=0, help="of all spans, added before the reads")
    arguments = parser.parse_args()
    if arguments.victoria_traces and (arguments.copies or arguments.growth):
        parser.error("copies and growth are measured without a peer")
    return arguments


if __name__ == "__main__":
    main(parse_arguments())
