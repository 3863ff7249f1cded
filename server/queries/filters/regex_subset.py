"""The regular expressions that filters accept: a subset that cannot blow up.

PostgreSQL matches these with automata, in time linear in the text. Constructs that make automata explode are refused
here, before any SQL is built: back references, look-around, quantifiers within quantified groups, and large bounds.
Allowed are literals, ``.``, ``[a-z]``, ``\\d \\w \\s``, ``^ $``, groups, ``|``, ``* + ?`` and ``{m,n}`` up to 20, with
``(?i)`` in front to ignore case.
"""

from __future__ import annotations

from typing import Final

LONGEST_PATTERN: Final = 200
LARGEST_BOUND: Final = 20
_CLASSES: Final = frozenset("dwsDWS")
_PUNCTUATION: Final = frozenset(r"\.^$|?*+()[]{}-/_:@#%&=~!<>,;'\" ")


def check_regex(pattern: str) -> None:
    """Raise ValueError, with the fault and its place, unless ``pattern`` is in the subset."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern has at most {LONGEST_PATTERN} characters")
    scanner = _Scanner(pattern, 4 if pattern.startswith("(?i)") else 0)
    scanner.alternation()
    if scanner.position < len(pattern):
        scanner.refuse("unbalanced )")


class _Scanner:
    """Recursive descent over the pattern; each method consumes one construct and returns whether it repeats."""

    def __init__(self, pattern: str, position: int) -> None:
        self.pattern = pattern
        self.position = position
        self.depth = 0

    def refuse(self, reason: str) -> None:
        raise ValueError(f"pattern not accepted at character {self.position + 1}: {reason}")

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self) -> str:
        character = self.peek()
        if not character:
            self.refuse("the pattern ends too early")
        self.position += 1
        return character

    def alternation(self) -> bool:
        repeats = self.branch()
        while self.peek() == "|":
            self.take()
            repeats |= self.branch()
        return repeats

    def branch(self) -> bool:
        repeats = False
        while self.peek() not in {"", "|", ")"}:
            inner = self.atom()
            outer = self.quantifier()
            if inner and outer:
                self.refuse("a repetition within a repetition")
            repeats |= inner or outer
        return repeats

    def atom(self) -> bool:
        character = self.take()
        if character == "(":
            return self.group()
        if character == "[":
            self.bracket()
        elif character == "\\":
            self.escape()
        elif character in "*+?{":
            self.position -= 1
            self.refuse("nothing to repeat")
        elif character in "^$" and self.peek() in {"*", "+", "?", "{"}:
            self.refuse("an anchor cannot repeat")
        return False

    def group(self) -> bool:
        if self.pattern.startswith("?", self.position):
            if not self.pattern.startswith("?:", self.position):
                self.refuse("only plain groups and (?: are supported")
            self.position += 2
        self.depth += 1
        if self.depth > 10:
            self.refuse("groups are nested too deeply")
        repeats = self.alternation()
        if self.take() != ")":
            self.refuse("unbalanced (")
        self.depth -= 1
        return repeats

    def escape(self) -> None:
        character = self.take()
        if character not in _CLASSES and character not in _PUNCTUATION:
            self.refuse(f"\\{character} is not supported")

    def bracket(self) -> None:
        if self.peek() == "^":
            self.take()
        if self.peek() == "]":
            self.refuse("an empty set")
        low = ""
        while (character := self.take()) != "]":
            if character == "[":
                self.refuse("write \\[ within a set")
            if character == "\\":
                character = self.take()
                if character in "DWS" or (character not in _CLASSES and character not in _PUNCTUATION):
                    self.refuse(f"\\{character} is not supported within a set")
                low = ""
                continue
            if character == "-" and low and self.peek() not in {"]", ""}:
                high = self.take()
                if high in "\\[" or high < low:
                    self.refuse("invalid range")
                low = ""
                continue
            low = character

    def quantifier(self) -> bool:
        character = self.peek()
        if character in {"*", "+", "?"}:
            self.take()
        elif character == "{":
            self.bounds()
        else:
            return False
        if self.peek() in {"*", "+", "?", "{"}:
            self.refuse("a repetition of a repetition")
        return character != "?"

    def bounds(self) -> None:
        end = self.pattern.find("}", self.position)
        numbers = self.pattern[self.position + 1 : end].split(",") if end > 0 else []
        if not 1 <= len(numbers) <= 2 or not numbers[0].isdecimal() or not (numbers[-1] or "0").isdecimal():
            self.refuse("expected {m}, {m,} or {m,n}")
        if not all(number.isascii() for number in numbers):
            self.refuse("expected {m}, {m,} or {m,n}")
        low, high = int(numbers[0]), int(numbers[-1] or numbers[0])
        if high > LARGEST_BOUND or low > high:
            self.refuse(f"bounds go up to {LARGEST_BOUND}")
        self.position = end + 1
