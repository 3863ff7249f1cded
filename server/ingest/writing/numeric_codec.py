"""PostgreSQL's ``numeric`` in binary form, as COPY sends it.

The driver's own encoder takes more than a microsecond per number, as much as mapping a column, and each model call has
three sums of money. Sums with ten decimals are encoded here in a third of that; every other number goes the long way,
to the same bytes as the driver's.

Binary form (numeric_send): as 16 bits the number of digits, the weight of the first, sign and decimals; then the
digits, to base 10,000.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import asyncpg

_TEN_DECIMALS: Final = Decimal("1E-10")
_TO_UNITS: Final = Decimal("1E+10")
_FEW_UNITS: Final = 10**14
"""Units of ten decimals: below it there is one digit before the point, and three after it."""

_HEAD: Final = struct.Struct("!HhHH")
_FOUR_DIGITS: Final[Callable[..., bytes]] = struct.Struct("!HhHH4H").pack
_NEGATIVE: Final = 0x4000
_SPECIAL: Final = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}
_SPECIAL_NAMES: Final = {sign: name for name, sign in _SPECIAL.items()}
_LARGEST_EXPONENT: Final = 131_072
_MOST_DECIMALS: Final = 16_383


async def accept_quick_numerics(connection: asyncpg.Connection) -> None:
    """Let ``connection`` send and read ``numeric`` by this module."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", format="binary", encoder=encode_numeric, decoder=decode_numeric
    )


def encode_numeric(value: Any) -> bytes:
    """Encode ``value``, a Decimal or something that converts to one. Raises the errors of Decimal, and ValueError
    outside PostgreSQL's range.
    """
    number = value if type(value) is Decimal else Decimal(value)
    if number.same_quantum(_TEN_DECIMALS):
        units = int(number * _TO_UNITS)
        if 0 < units < _FEW_UNITS:
            return _FOUR_DIGITS(
                4, 0, 0, 10, units // 10**10, units // 10**6 % 10**4, units // 100 % 10**4, units % 100 * 100
            )
    return _encode_any(number)


def _encode_any(number: Decimal) -> bytes:
    if not number.is_finite():
        return _HEAD.pack(0, 0, _SPECIAL["NaN" if number.is_nan() else str(number)], 0)
    is_negative, places, exponent = number.as_tuple()
    if not isinstance(exponent, int) or not -_MOST_DECIMALS <= exponent <= _LARGEST_EXPONENT:
        raise ValueError("the number has more digits than numeric can hold")
    decimals = max(0, -exponent)
    padding = -decimals % 4
    rest = int("".join(map(str, places))) * 10 ** (max(0, exponent) + padding)
    digits: list[int] = []
    while rest:
        rest, digit = divmod(rest, 10_000)
        digits.append(digit)
    weight = len(digits) - (decimals + padding) // 4 - 1 if digits else 0
    if weight > 0x7FFF:
        raise ValueError("the number has more digits than numeric can hold")
    head = _HEAD.pack(len(digits), weight, _NEGATIVE if is_negative else 0, decimals)
    return head + struct.pack(f"!{len(digits)}H", *reversed(digits))


def decode_numeric(data: bytes) -> Decimal:
    """Return the number in ``data``, with the decimals that PostgreSQL shows."""
    count, weight, sign, decimals = _HEAD.unpack_from(data)
    if sign in _SPECIAL_NAMES:
        return Decimal(_SPECIAL_NAMES[sign])
    whole = 0
    for digit in struct.unpack_from(f"!{count}H", data, _HEAD.size):
        whole = whole * 10_000 + digit
    shift = 4 * (weight - count + 1) + decimals
    whole = whole * 10**shift if shift >= 0 else whole // 10**-shift
    return Decimal(f"{'-' if sign == _NEGATIVE else ''}{whole}E-{decimals}")
