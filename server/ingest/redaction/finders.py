"""Built-in targets of redaction rules: addresses, numbers and secrets, each as a pattern and a test of each hit.

In JSON, logs and code a value follows an escape (``\\nsk-…``), ends a sentence, or has the blanks and hyphens of good
typography. Every quantifier is bounded or possessive, and neighbours share no characters: matching takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from server.ingest.redaction.linear_pattern import Pattern


def luhn_is_valid(digits: str) -> bool:
    """Return whether ``digits`` ends in the check digit of ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def _card(match: str) -> int:
    digits = re.sub(r"\D", "", match)
    return len(match) if 13 <= len(digits) <= 19 and luhn_is_valid(digits) else 0


def _phone(match: str) -> int:
    number = re.split("[A-Za-z#]", match, maxsplit=1)[0]
    return len(match) if 8 <= len(re.sub(r"\D", "", number)) <= 15 else 0


def _address(match: str) -> int:
    for text in (match, match.removesuffix(":")):  # as in "2001:db8::1: unreachable"
        with suppress(ValueError):
            return len(match) if ip_address(text.partition("%")[0]) and text != "::" else 0
    return 0


_COUNTRIES_BY_LENGTH: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
IBAN_LENGTHS: Final = {
    country: length for length, countries in _COUNTRIES_BY_LENGTH.items() for country in countries.split()
}
"""Letters and digits of an account number (ISO 13616) by country."""


def _iban(match: str) -> int:
    """Return the length of the account number: a word in capitals may follow it."""
    length = IBAN_LENGTHS.get(match[:2].upper(), 0)
    places = [place for place, letter in enumerate(match) if letter.isalnum()]
    if not length or len(places) < length:
        return 0
    number = "".join(match[place] for place in places[:length])
    ends = places[length - 1] + 1
    is_end = not match[ends : ends + 1].isalnum()
    return ends if is_end and int("".join(str(int(digit, 36)) for digit in number[4:] + number[:4])) % 97 == 1 else 0


@dataclass(frozen=True, slots=True)
class Finder:
    """The target of a rule: a pattern that cannot backtrack far, and how much of each match is a hit."""

    pattern: Pattern
    extent: Callable[[str], int] = len
    """Returns the number of characters from the start of a match that are a hit; 0: none."""


_ESCAPE: Final = r"(?<=\\[bfnrt])"
"""The end of an escape, as in JSON inside a text: its letter is no part of what follows."""
_BLANK: Final = " \u00a0\u2007\u2009\u202f"
_HYPHEN: Final = "\u2010-\u2015\u2212-"

FINDERS: Final[dict[str, Finder]] = {
    "email": Finder(
        re.compile(
            r"(?<![\w.+-])(?:\w{1,30}['’])?[\w.+-]{1,64}@"
            r"(?:[\w-]{1,63}\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[^\W\d_]{2,24})(?!\w)"
        )
    ),
    "phone": Finder(
        re.compile(
            rf"(?:(?<![\w.])|{_ESCAPE})(?:\+|00)?\(?\d{{1,4}}\)?(?:[./{_BLANK}{_HYPHEN}]?\(?\d{{2,5}}\)?){{2,5}}"
            r"(?:[ ,;]{0,2}(?:ext\.?|x|#)[ .:]?\d{1,6})?(?!\w)"
        ),
        _phone,
    ),
    "card": Finder(re.compile(rf"(?<![\d-])\d(?:[{_BLANK}{_HYPHEN}]?\d){{12,18}}(?![\d-])"), _card),
    "iban": Finder(
        re.compile(rf"(?:(?<![A-Za-z0-9])|{_ESCAPE})[A-Za-z]{{2}}\d{{2}}(?:[{_BLANK}{_HYPHEN}]?[A-Za-z0-9]){{11,34}}"),
        _iban,
    ),
    "api_key": Finder(
        re.compile(
            rf"(?:(?<![\w-])|{_ESCAPE})(?:(?:"
            r"sk-[A-Za-z0-9_-]{16,}+|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+|gh[pousr]_[A-Za-z0-9]{30,}+"
            r"|github_pat_[A-Za-z0-9_]{30,}+|A[KS]IA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|xox[abeprs]-[A-Za-z0-9-]{10,}+"
            r"|llmo_[A-Za-z0-9_]{20,}+|hf_[A-Za-z0-9]{30,}+|glpat-[A-Za-z0-9_-]{20,}+"
            # JWTs: signed, encrypted (five parts), or without a signature.
            r"|eyJ[A-Za-z0-9_-]{10,}+(?:\.[A-Za-z0-9_-]*+){2,4}"
            r")(?!\w)"
            r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*+(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?)"
        )
    ),
    # IPv6 with all its short forms, an embedded IPv4 address and a zone; what only looks like one (a time of day, C++
    # names) is no address to the standard library. An address of IPv4 may end a sentence.
    "ip": Finder(
        re.compile(
            rf"(?:(?<!\w)|{_ESCAPE})"
            r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{1,4})?(?:%[\w.-]{1,32})?(?!\w)"
            r"|(?<!\d)(?<!\d\.)(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\d|\.\d)"
        ),
        _address,
    ),
}
