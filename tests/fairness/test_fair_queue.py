"""The queue that no tenant can fill: bounds, order, patience, cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, thread_time
from typing import TypeVar

import pytest

from server.errors import PoolTimeout, ShareExhausted
from server.fairness import fair_queue
from server.fairness.fair_queue import FairQueue
from server.fairness.off_loop import in_thread
from server.fairness.party import SERVER, UNKNOWN_CALLERS, Party, current_party
from server.fairness.presence import ABOUT_SECONDS, THIS_PROCESS, Presence
from server.fairness.processors import THIS_MACHINE
from server.fairness.tenants import Parts, Place
from server.fairness.usage import HALF_LIFE_SECONDS

T = TypeVar("T")


def queue_of(capacity: float, *, patience: float = 0.05, quick_seconds: float | None = None) -> FairQueue:
    return FairQueue("places", capacity, patience=patience, exhausted=PoolTimeout, quick_seconds=quick_seconds)


def as_party(party: Party, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
    """Start ``work`` as a task of ``party``."""
    context = contextvars.copy_context()
    context.run(current_party.set, party)

    async def run() -> T:
        return await work()

    return asyncio.get_running_loop().create_task(run(), context=context)


def make_bursts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let places rest after ``seconds`` of use, and for as long as there was no less of it lately."""
    monkeypatch.setattr(fair_queue, "BURST_SECONDS", seconds)
    monkeypatch.setattr(fair_queue, "STEADY_SECONDS", min(seconds, 0.1))


def party(tenant: str, principal: str = "one", patience: float | None = None) -> Party:
    return Party(tenant, principal, patience)


async def take_many(queue: FairQueue, who: Party, count: int) -> list[Place]:
    """Take as many of ``count`` places as ``who`` gets."""
    found = await asyncio.gather(*(as_party(who, queue.take) for _ in range(count)), return_exceptions=True)
    assert all(isinstance(item, Place | ShareExhausted | PoolTimeout) for item in found)
    return [item for item in found if isinstance(item, Place)]


async def test_alone_a_tenant_leaves_room_for_a_newcomer() -> None:
    queue = queue_of(10)
    first = await take_many(queue, party("a", "one"), 20)
    second = await take_many(queue, party("a", "two"), 20)
    assert (len(first), len(second)) == (6, 2)  # eight of ten, and one principal not all of them
    assert len(await take_many(queue, party("b"), 1)) == 1


async def test_while_others_are_about_a_tenant_holds_less() -> None:
    queue = queue_of(10)
    (place,) = await take_many(queue, party("b"), 1)
    queue.give_back(place)
    assert len(await take_many(queue, party("a", "one"), 20) + await take_many(queue, party("a", "two"), 20)) == 4


async def test_slow_uses_take_the_part_down_and_quick_ones_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(fair_queue, "monotonic", lambda: now)
    queue = queue_of(10, quick_seconds=0.1)
    (other,) = await take_many(queue, party("b"), 1)
    places = await take_many(queue, party("a"), 20)
    assert len(places) == 1  # a newcomer begins as if it were slow
    for expected in (2, 3):  # each quick use raises the part up to four, of which one principal has three
        for place in places:
            queue.give_back(place)
        places = await take_many(queue, party("a"), 20)
        assert len(places) == expected
    now += 1.0
    queue.give_back(places.pop())
    assert await take_many(queue, party("a"), 20) == []  # the two left are slow by now
    now += 1.0
    for place in places:
        queue.give_back(place)
    assert len(await take_many(queue, party("a"), 20)) == 1
    queue.give_back(other)


async def test_many_slow_tenants_together_leave_room_for_quick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(fair_queue, "monotonic", lambda: now)
    queue = queue_of(10, quick_seconds=0.1)
    for tenant in range(9):
        (place,) = await take_many(queue, party(f"slow {tenant}"), 1)
        now += 1.0
        queue.give_back(place)
    held = [place for tenant in range(9) for place in await take_many(queue, party(f"slow {tenant}"), 5)]
    assert len(held) == 6
    assert len(await take_many(queue, party("quick"), 1)) == 1


async def test_who_used_least_lately_comes_first() -> None:
    queue = queue_of(1, patience=5)
    place = await as_party(party("busy"), queue.take)
    order: list[str] = []

    async def use(name: str) -> None:
        held = await queue.take()
        order.append(name)
        await asyncio.sleep(0)
        queue.give_back(held)

    tasks = [as_party(party("busy"), lambda: use("busy")) for _ in range(5)]
    await asyncio.sleep(0.02)  # which "busy" has used by then
    tasks += [as_party(party("calm"), lambda: use("calm")) for _ in range(2)]
    await asyncio.sleep(0.02)
    queue.give_back(place)
    await asyncio.gather(*tasks)
    assert order[:2] == ["calm", "calm"]


async def test_principals_of_one_tenant_take_turns() -> None:
    queue = queue_of(1, patience=5)
    place = await as_party(party("a"), queue.take)
    order: list[str] = []

    async def use(name: str) -> None:
        async with queue.hold():
            order.append(name)

    tasks = [as_party(party("a", "many"), lambda: use("many")) for _ in range(4)]
    await asyncio.sleep(0)
    tasks.append(as_party(party("a", "few"), lambda: use("few")))
    await asyncio.sleep(0)
    queue.give_back(place)
    await asyncio.gather(*tasks)
    assert order.index("few") == 1


async def test_who_waits_in_vain_is_told_whose_fault_it_is() -> None:
    queue = queue_of(10)
    await take_many(queue, party("a", "one"), 20)
    with pytest.raises(ShareExhausted, match="share of places") as refused:
        await as_party(party("a", "one"), queue.take)
    assert refused.value.headers["Retry-After"] == "1"
    full = FairQueue("places", 1, patience=0.01, exhausted=PoolTimeout)
    await as_party(party("a"), full.take)
    with pytest.raises(PoolTimeout):
        await as_party(party("b"), full.take)


async def test_a_single_holder_is_let_in_however_much_it_asks_for() -> None:
    queue = queue_of(100)
    place = await as_party(party("a"), lambda: queue.take(90))
    assert queue.held == 90
    with pytest.raises(PoolTimeout):
        await as_party(party("b"), lambda: queue.take(20))
    queue.give_back(place)
    assert (await as_party(party("b"), lambda: queue.take(20))).amount == 20


async def test_work_in_steps_lets_others_have_a_turn() -> None:
    queue = queue_of(1, patience=5)
    order: list[str] = []

    async def steps(name: str, count: int) -> None:
        place = await queue.take()
        for _ in range(count):
            await asyncio.sleep(0.002)
            order.append(name)
            place = await queue.pass_on(place)
        queue.give_back(place)

    long = as_party(party("long"), lambda: steps("long", 20))
    await asyncio.sleep(0.01)
    await as_party(party("short"), lambda: steps("short", 3))
    done_by_then = order.count("long")
    await long
    assert order.count("long") == 20
    assert done_by_then < 15
    assert queue.held == 0


async def test_work_in_steps_rests_while_others_are_about_and_none_waits() -> None:
    queue = queue_of(1, patience=5)

    async def steps(count: int) -> float:
        place, began = await queue.take(), monotonic()
        for _ in range(count):
            place = await queue.pass_on(place, 0.02)
        queue.give_back(place)
        return monotonic() - began

    assert await as_party(party("long"), lambda: steps(20)) < 0.4, "alone it does not rest"
    await as_party(party("short"), lambda: steps(1))
    assert await as_party(party("long"), lambda: steps(20)) >= 0.4

    first = as_party(party("long"), lambda: steps(150))
    assert await as_party(party("other"), lambda: steps(150)) < 1.5, "where two take turns, the loop is not left idle"
    await first


async def test_a_rest_ends_when_another_tenant_wants_the_place() -> None:
    queue = queue_of(1, patience=5)
    await take_and_give_back(queue, party("short"))

    async def rest_long() -> None:
        queue.give_back(await queue.pass_on(await queue.take(), 60))

    resting = as_party(party("long"), rest_long)
    same = as_party(party("long"), lambda: take_and_give_back(queue, party("long")))
    await asyncio.sleep(0.02)
    assert not resting.done()
    assert not same.done(), "others of the same tenant wait for the end of the rest"
    await asyncio.wait_for(take_and_give_back(queue, party("short")), 5)
    await asyncio.wait_for(asyncio.gather(resting, same), 5)
    assert queue.held == 0


async def test_a_cancelled_rest_gives_the_place_back() -> None:
    queue = queue_of(1, patience=5)
    await take_and_give_back(queue, party("short"))

    async def rest_long() -> None:
        await queue.pass_on(await queue.take(), 60)

    resting = as_party(party("long"), rest_long)
    await asyncio.sleep(0.02)
    resting.cancel()
    await asyncio.wait([resting])
    assert queue.held == 0
    await asyncio.wait_for(take_and_give_back(queue, party("short")), 5)


async def take_and_give_back(queue: FairQueue, who: Party) -> None:
    queue.give_back(await as_party(who, queue.take))


async def test_the_servers_own_work_is_bound_by_the_whole_only() -> None:
    queue = queue_of(10)
    assert len(await take_many(queue, SERVER, 12)) == 10


async def test_whatever_is_cancelled_nothing_is_lost_and_no_bound_is_passed() -> None:
    """Random takes, cancellations and hand-overs of many parties, a thousand times."""
    chance = random.Random(7)
    queue = FairQueue("places", 5, patience=0.02, exhausted=PoolTimeout, parts=Parts(), quick_seconds=0.001)
    most: dict[str, int] = {}
    held: dict[str, int] = {}

    async def use(tenant: str) -> None:
        place = await queue.take()
        held[tenant] = held.get(tenant, 0) + 1
        most[tenant] = max(most.get(tenant, 0), held[tenant])
        assert sum(held.values()) <= 5
        try:
            await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.002)))
        finally:
            held[tenant] -= 1
            queue.give_back(place)

    tasks = []
    for _ in range(1000):
        tenant = chance.choice("aaaab")
        tasks.append(as_party(party(tenant, chance.choice("xyz"), 1.0), partial(use, tenant)))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            await asyncio.sleep(0.0005)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(item) for item in results} <= {type(None), asyncio.CancelledError, ShareExhausted, PoolTimeout}
    assert queue.held == 0
    assert queue.waiting() == 0
    assert max(most.values()) <= 4


async def test_many_sets_of_the_same_projects_hold_no_more_than_these_projects() -> None:
    queue = queue_of(20, patience=0.01)
    (other,) = await take_many(queue, party("victim"), 1)
    sets = ["a", "b", "c", "a\nb", "a\nc", "b\nc", "a\nb\nc"]
    held = [place for name in sets * 3 for place in await take_many(queue, party(name), 8)]
    assert sum(place.amount for place in held) <= 3 * 8, "three projects have three parts, not seven"
    assert len(await take_many(queue_of(20), party("a\nb"), 20)) == 12, "alone a set has what one project has"
    for place in [*held, other]:
        queue.give_back(place)
    assert queue.held == 0
    assert len(await take_many(queue, party("a"), 1)) == 1


async def test_a_set_of_projects_does_not_wait_behind_one_that_keeps_its_part_in_use() -> None:
    queue = queue_of(10, patience=5)
    (other,) = await take_many(queue, party("victim"), 1)
    queue.give_back(other)
    busy = [await as_party(party("a", f"p{n}"), queue.take) for n in range(4)]
    waiting = [as_party(party("a", f"p{n}"), queue.take) for n in range(4)]
    await asyncio.sleep(0.02)
    both = as_party(party("a\nb"), queue.take)
    await asyncio.sleep(0)
    queue.give_back(busy.pop())
    async with asyncio.timeout(5):
        queue.give_back(await both)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_work_in_a_thread_is_counted_until_it_ends_though_nobody_waits() -> None:
    is_let_go = threading.Event()

    async def abandon(who: Party) -> None:
        task = as_party(who, lambda: in_thread(lambda: is_let_go.wait(30)))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        for _ in range(3):
            await abandon(party("hasty", patience=0.01))
        async with asyncio.timeout(10):
            assert await as_party(party("calm", patience=10), lambda: in_thread(lambda: 7)) == 7
    finally:
        is_let_go.set()
    async with asyncio.timeout(10):
        assert await as_party(party("hasty", patience=10), lambda: in_thread(lambda: 8)) == 8


async def test_a_thread_rests_after_long_work_while_others_are_about() -> None:
    def worked() -> None:
        end = thread_time() + 0.1
        while thread_time() < end:
            pass

    async def thrice() -> float:
        began = monotonic()
        for _ in range(3):
            await in_thread(worked)
        return monotonic() - began

    alone = await as_party(party("lone"), thrice)
    await as_party(party("other"), lambda: in_thread(lambda: None))
    rested = await as_party(party("lone"), thrice)
    assert alone >= 0.3
    assert rested >= 0.5  # twice as long as it worked between the three


async def test_a_thread_rests_longer_on_a_busy_machine_though_others_use_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(THIS_MACHINE, "_looked_at", monotonic() + 60)
    monkeypatch.setattr(THIS_MACHINE, "_busy_until", monotonic() + 60)
    THIS_PROCESS.note("other", monotonic())

    def worked() -> None:
        end = thread_time() + 0.1
        while thread_time() < end:
            pass

    async def twice() -> float:
        await in_thread(worked)
        began = monotonic()
        await in_thread(worked)
        return monotonic() - began

    assert await as_party(party("lone"), twice) >= 0.4


async def use(queue: FairQueue, who: Party, seconds: float) -> float:
    """Use a place for so long; return the seconds until there was one."""
    began = monotonic()
    place = await as_party(who, queue.take)
    waited = monotonic() - began
    await asyncio.sleep(seconds)
    queue.give_back(place)
    return waited


@pytest.mark.parametrize("is_busy", [True, False])
async def test_on_a_busy_machine_who_used_most_rests_and_keeps_nobody_waiting(
    is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bursts(monkeypatch, 0.1)
    queue = FairQueue("places", 1, patience=5, exhausted=PoolTimeout, rests_while=lambda: is_busy)
    await use(queue, party("light"), 0.001)
    heavy = [asyncio.create_task(use(queue, party("heavy"), 0.2)) for _ in range(3)]
    await asyncio.sleep(0.3)
    if is_busy:
        assert queue.held == 0
        assert await use(queue, party("light"), 0) < 0.1, "a place that rests is free for others"
    waited = max(await asyncio.gather(*heavy))
    assert (waited > 0.7) is is_busy, "three times as long as it worked"


@pytest.mark.parametrize("reason", ["alone", "a burst", "less than others", "one waits", "nothing waits"])
async def test_who_takes_from_nobody_never_rests(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bursts(monkeypatch, 1.5 if reason == "a burst" else 0.1)
    queue = FairQueue("places", 1, patience=5, exhausted=PoolTimeout, rests_while=lambda: True)
    if reason != "alone":
        await use(queue, party("other"), 0.9 if reason == "less than others" else 0)
    if reason == "nothing waits":
        waited = [await use(queue, party("heavy"), 0.15) for _ in range(3)]
    else:
        count = 2 if reason == "one waits" else 3
        waited = await asyncio.gather(*(use(queue, party("heavy"), 0.15) for _ in range(count)))
    # With rests the second would wait for 0.6 seconds, the third for 1.2; without, for 0.15 and 0.3.
    assert max(waited) < (0.9 if len(waited) == 3 and reason != "nothing waits" else 0.4)


async def test_who_used_more_than_a_burst_rests_until_it_uses_little(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(fair_queue, "monotonic", lambda: now)
    monkeypatch.setattr(fair_queue, "LONGEST_REST_SECONDS", 0.01)
    queue = FairQueue("places", 1, patience=5, exhausted=PoolTimeout, rests_while=lambda: True)

    async def rests_after(seconds: float, who: str = "heavy") -> bool:
        nonlocal now
        place = await as_party(party(who), queue.take)
        waiting = [as_party(party(who), queue.take) for _ in range(2)]
        await asyncio.sleep(0)
        now += seconds
        queue.give_back(place)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.02)  # while its place rests
        return place.is_resting

    assert not await rests_after(0, "light")
    assert not await rests_after(0.9 * fair_queue.BURST_SECONDS)
    assert await rests_after(2)
    assert await rests_after(0.01), "little more, but not little lately"
    now += 3 * HALF_LIFE_SECONDS
    await rests_after(0, "light")
    assert not await rests_after(0.01)


async def test_who_used_most_has_one_place_at_a_time_until_the_machine_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    make_bursts(monkeypatch, 0.1)
    monkeypatch.setattr(fair_queue, "LONGEST_REST_SECONDS", 0.01)
    is_busy = True
    queue = FairQueue("places", 10, patience=5, exhausted=PoolTimeout, rests_while=lambda: is_busy)
    await use(queue, party("light"), 0.001)
    heavy = [asyncio.create_task(use(queue, party("heavy"), 0.1)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert queue.held == 3, "a burst: three quarters of the part of a tenant"
    await asyncio.sleep(0.2)
    assert queue.held <= 1
    is_busy = False
    await asyncio.sleep(0.25)
    assert queue.held == 3
    await asyncio.gather(*heavy)


@pytest.mark.parametrize("is_shared", [True, False])
async def test_places_rest_for_tenants_in_other_queues_with_the_same_presence(
    is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bursts(monkeypatch, 0.1)
    presence = Presence()

    def queue_with(presence: Presence) -> FairQueue:
        return FairQueue(
            "places", 1, patience=5, exhausted=PoolTimeout, rests_while=lambda: True, presence=presence
        )  # fmt: skip

    panels, lists = queue_with(presence), queue_with(presence if is_shared else Presence())
    await use(lists, party("light"), 0)
    waited = await asyncio.gather(*(use(panels, party("heavy"), 0.2) for _ in range(3)))
    assert (max(waited) > 0.9) is is_shared, "it rests for three times as long as it worked"


def test_tenants_are_about_for_a_while_and_the_server_and_the_unknown_are_nobody() -> None:
    presence = Presence()
    presence.note("a", 0)
    presence.note(SERVER.tenant, 0)
    presence.note(UNKNOWN_CALLERS, 0)
    assert not presence.others_are_about("a", 1)
    presence.note("b", 1)
    presence.note("a", 2)
    assert presence.others_are_about("a", 3)
    assert presence.others_are_about("b", 3)
    assert not presence.others_are_about("a", 1 + ABOUT_SECONDS)


async def test_a_place_that_rests_makes_no_tenant_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    make_bursts(monkeypatch, 0.05)
    queue = FairQueue("places", 20, patience=5, exhausted=PoolTimeout, quick_seconds=0.25, rests_while=lambda: True)
    await use(queue, party("light"), 0)
    heavy = [asyncio.create_task(use(queue, party("heavy"), 0.06)) for _ in range(6)]
    await asyncio.gather(*heavy)
    (tenant,) = (tenant for name, tenant in queue._tenants.items() if name == "heavy")
    assert not tenant.is_slow


@pytest.mark.parametrize("is_patient", [True, False])
async def test_who_waits_for_its_own_share_alone_may_wait_longer(is_patient: bool) -> None:
    """On a machine without time for anybody a tenant was once refused one of two questions at a time."""
    queue = FairQueue("places", 10, patience=0.05, exhausted=PoolTimeout, share_patience=5 if is_patient else 0)
    queue.give_back(await as_party(party("another"), queue.take))
    held = [await as_party(party("a", name), queue.take) for name in ("one", "one", "one", "two")]
    later = as_party(party("a"), queue.take)
    await asyncio.sleep(0.3)
    queue.give_back(held[0])
    (found,) = await asyncio.gather(later, return_exceptions=True)
    assert isinstance(found, Place if is_patient else ShareExhausted)
