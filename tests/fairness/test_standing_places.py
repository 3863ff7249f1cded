"""Places that are held for hours: one tenant never has all of them, however many credentials it makes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from server.errors import ApiError, Overloaded, ShareExhausted
from server.fairness.party import Party, current_party
from server.fairness.standing_places import StandingPlaces


def take_all(places: StandingPlaces, stack: ExitStack, *tenants: str) -> int:
    """Take places for these tenants in turn until each is refused; return how many they got."""
    taken = 0
    while True:
        before = taken
        for number, tenant in enumerate(tenants):
            mark = current_party.set(Party(tenant, f"key {number}"))
            try:
                stack.enter_context(places.hold())
                taken += 1
            except ApiError:
                pass
            finally:
                current_party.reset(mark)
        if taken == before:
            return taken


def test_each_tenant_leaves_room_for_the_next() -> None:
    places = StandingPlaces("streams", 100, exhausted=lambda: Overloaded("all"))
    with ExitStack() as stack:
        assert take_all(places, stack, "a") == 80
        assert take_all(places, stack, "b") == 16
        current_party.set(Party("a", "another key"))
        with pytest.raises(ShareExhausted), places.hold():
            pass
        assert take_all(places, stack, "c") >= 1
    assert places.held == 0
    with places.hold():
        assert places.held == 1


def test_sets_of_projects_have_no_more_than_their_projects() -> None:
    places = StandingPlaces("streams", 1000, exhausted=lambda: Overloaded("all"))
    with ExitStack() as stack:
        sets = ("a", "b", "a\nb")
        assert take_all(places, stack, *sets) <= 900, "two projects: 80 %, and 80 % of half the rest"
        assert take_all(places, stack, "victim") > 50
    assert places.held == 0


def test_when_all_are_taken_everybody_is_told_so() -> None:
    places = StandingPlaces("streams", 1, exhausted=lambda: Overloaded("all"))
    with places.hold(), pytest.raises(Overloaded), places.hold():
        pass
