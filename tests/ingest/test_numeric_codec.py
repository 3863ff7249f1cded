"""Sums of money in binary form, held against the driver's own and against PostgreSQL."""

from __future__ import annotations

import random
from decimal import Decimal

import asyncpg
import pytest

from server.ingest.writing.numeric_codec import accept_quick_numerics, decode_numeric, encode_numeric

NUMBERS = (
    "0", "0.0000000000", "-0", "0.0000000001", "0.0035000000", "1.0000000000", "9999.9999999999", "10000.0000000000",
    "999999999.9999999999", "-0.0000000001", "-12.5000000000", "0.5", "1", "10", "9999", "10000", "12E3", "1E+20",
    "0.00001", "123456789012345678901234567890.123456789", "1E-20", "NaN",
)  # fmt: skip


def some_numbers() -> list[Decimal]:
    chance = random.Random(5)
    made = []
    for _ in range(400):
        whole, decimals = chance.randrange(10 ** chance.randrange(1, 25)), chance.choice((0, 2, 4, 9, 10, 10, 10, 12))
        made.append(Decimal(f"{chance.choice(('', '-'))}{whole}E-{decimals}"))
    return made + [Decimal(text) for text in NUMBERS]


async def test_a_number_comes_back_as_the_driver_alone_gives_it(owner: asyncpg.Connection) -> None:
    numbers = some_numbers()
    question = "SELECT n, n::text AS shown FROM unnest($1::numeric[]) WITH ORDINALITY AS u (n, place) ORDER BY place"
    ours = [encode_numeric(number) for number in numbers]
    from_driver = await owner.fetch(question, numbers)
    await accept_quick_numerics(owner)
    from_us = await owner.fetch(question, numbers)
    assert [row["shown"] for row in from_us] == [row["shown"] for row in from_driver]
    assert [f"{row['n']:f}" for row in from_us] == [row["shown"] for row in from_driver]
    assert [decode_numeric(data) for data in ours[:-1]] == [row["n"] for row in from_driver[:-1]]


async def test_copy_stores_what_was_sent(owner: asyncpg.Connection) -> None:
    await accept_quick_numerics(owner)
    await owner.execute("CREATE TEMP TABLE sums (place int, amount numeric(20, 10))")
    sums = [number for number in some_numbers() if number.is_nan() or abs(number) < 10**10]
    await owner.copy_records_to_table("sums", records=list(enumerate(sums)), schema_name="pg_temp")
    rows = await owner.fetch("SELECT amount FROM sums ORDER BY place")
    assert len(rows) > 100
    for sent, row in zip(sums, rows, strict=True):
        assert row["amount"].is_nan() if sent.is_nan() else row["amount"] == round(sent, 10)


@pytest.mark.parametrize("text", ["Infinity", "-Infinity"])
def test_infinity_comes_back(text: str) -> None:
    assert decode_numeric(encode_numeric(Decimal(text))) == Decimal(text)


def test_a_whole_number_is_taken_as_it_is() -> None:
    assert decode_numeric(encode_numeric(12_345_678)) == 12_345_678


@pytest.mark.parametrize("number", [Decimal("1E+131073"), Decimal("1E-16384"), Decimal("1E+131072") * 10**6])
def test_what_numeric_cannot_hold_is_refused(number: Decimal) -> None:
    with pytest.raises(ValueError, match="more digits"):
        encode_numeric(number)
