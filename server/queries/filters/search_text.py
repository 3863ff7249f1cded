"""Full text in any language: documents and questions are cut into words in the same way.

A document is indexed as ``to_tsvector('simple', search_document(text))`` and searched with ``to_tsquery('simple', …)``;
PostgreSQL's parser sees nothing but words between spaces, so addresses, hyphenated words and file names are found by
each of their words.

* Letter case and compatibility forms (full-width letters, ligatures) are folded, Arabic vowel
  marks and the tatweel are left out.
* Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and Korean are
  cut into overlapping pairs of characters: ``東京都`` becomes ``東京 京都 都``. A search for
  ``京都`` is then an ordinary word, one for ``東京都`` a phrase of two, one for ``都`` a prefix.
* There are no stop words and there is no stemming: prompts mix languages, and code and names must be found too.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from dataclasses import dataclass

DOCUMENT_BYTES = 262_144
"""A longer document is indexed from its start only: a tsvector may not exceed 1 MB (error 54000)."""
LONGEST_WORD = 128
"""Longer words (base64, hashes) are not indexed: nobody searches for them, and they bloat the index."""
LONGEST_QUERY = 1000
MOST_TERMS = 50

# Ranges of the scripts without spaces between words, and of Hangul, whose words carry particles.
_UNSPACED = (
    "\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17dd"
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7a3\U00020000-\U0003ffff"
)
_MARKS = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)).startswith("M"))
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}][{_UNSPACED}{_MARKS}]*")
_UNIT = re.compile(f".[{_MARKS}]*", re.DOTALL)
_SEPARATORS = re.compile(f"(?:[^\\w{_MARKS}]|_)+")
_ARABIC_OPTIONAL = re.compile("[\u0640\u064b-\u0652\u0670]")
_GAP = "[^a-z0-9]"
"""In a regular expression of PostgreSQL: what is between the words of a text of plain ASCII."""
_NUMBER = "[0-9]+e[0-9]+"
_SCIENTIFIC = re.compile(f"^({_NUMBER})(?=[a-z])")
"""A number such as "12e5", where letters follow it: PostgreSQL's parser makes two words of such a word."""
_IS_NUMBER = re.compile(_NUMBER)
_ASCII_FOLD = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def search_document(*texts: str | None) -> str:
    """Return the words of ``texts`` in order, with one or more spaces between them, in the form that is indexed."""
    text = " ".join([part for part in texts if part])[:DOCUMENT_BYTES]
    document = _fold(text)
    is_cut = not text.isascii() and _UNSPACED_RUN.search(text) is not None
    # PostgreSQL ignores extra spaces, so most documents need not be taken apart into words here.
    if is_cut or _has_long_word(document):
        words = document.split()
        if is_cut:
            words = [token for word in words for token in _tokens(word)]
        document = " ".join([word for word in words if len(word) <= LONGEST_WORD])
    if len(document) * 4 <= DOCUMENT_BYTES or len(document.encode()) <= DOCUMENT_BYTES:
        return document
    return document.encode()[:DOCUMENT_BYTES].decode(errors="ignore").rpartition(" ")[0]


def _has_long_word(document: str) -> bool:
    """Return whether a word may be too long. Steps of half the limit suffice, since a long word fills at least one
    step.
    """
    step = LONGEST_WORD // 2
    return any(" " not in document[start : start + step] for start in range(0, len(document) - step + 1, step))


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One word or phrase of a question: its ``words`` must be adjacent."""

    words: tuple[str, ...]
    negated: bool = False
    is_prefix: bool = False

    def tsquery(self) -> str:
        """Render as an operand of ``to_tsquery``."""
        return f"!{self.operand()}" if self.negated else self.operand()

    def operand(self) -> str:
        """Render the term without its negation."""
        tokens, is_prefix = self._indexed()
        return f"({' <-> '.join(map(_quoted, tokens))}{':*' if is_prefix else ''})"

    def lexemes(self) -> str:
        """Render an operand that asks for all words of the term, wherever they are: for an index without places."""
        words, is_prefix = self._parsed()
        return f"({' & '.join(map(_quoted, words))}{':*' if is_prefix else ''})"

    def pattern(self) -> str:
        """Render a regular expression of PostgreSQL that finds the term in a text of plain ASCII, whatever its case."""
        words, is_prefix = self._parsed()
        # Looks beside the text take a tenth less time than gaps that are a part of what is found.
        before = ["(?<![a-z0-9])" if words[0][0].isdigit() else f"(?<![a-z0-9])(?:{_NUMBER})?"]
        before += [
            f"{_GAP}*" if _IS_NUMBER.fullmatch(left) and not right[0].isdigit() else f"{_GAP}+"
            for left, right in itertools.pairwise(words)
        ]
        end = "" if is_prefix else "(?![0-9])" if _IS_NUMBER.fullmatch(words[-1]) else "(?![a-z0-9])"
        return "".join(itertools.chain.from_iterable(zip(before, words, strict=True))) + end

    def _parsed(self) -> tuple[list[str], bool]:
        """Return the words as PostgreSQL's parser takes them apart, and whether the last is the beginning of one."""
        tokens, is_prefix = self._indexed()
        return " ".join(_SCIENTIFIC.sub(r"\1 ", token) for token in tokens).split(), is_prefix

    def _indexed(self) -> tuple[list[str], bool]:
        """Return the words as they are in the index, and whether the last one is only the beginning of one."""
        tokens: list[str] = []
        for word in self.words:
            tokens += _tokens(word)
        is_prefix = self.is_prefix
        last_units = _units(self.words[-1])
        if last_units:
            # The last character of a run is in the index on its own only if a run ends there.
            is_prefix = len(last_units) == 1
            tokens = tokens if is_prefix else tokens[:-1]
        return tokens, is_prefix


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A parsed question: alternatives, of which one must hold; an alternative holds if all of its terms do."""

    alternatives: tuple[tuple[SearchTerm, ...], ...]

    @property
    def tsquery(self) -> str | None:
        """Text for ``to_tsquery('simple', …)``; None if no word is left, which finds nothing."""
        groups = [" & ".join(term.tsquery() for term in terms) for terms in self.alternatives]
        return " | ".join(f"({group})" for group in groups) or None

    @property
    def any_word(self) -> str:
        """Text for ``to_tsquery`` that finds any of the words and phrases searched for; empty without any."""
        return " | ".join(term.operand() for terms in self.alternatives for term in terms if not term.negated)

    @property
    def any_pattern(self) -> str:
        """The same as a regular expression for texts of plain ASCII."""
        return "|".join(term.pattern() for terms in self.alternatives for term in terms if not term.negated)


def _quoted(token: str) -> str:
    return f"'{token}'"


_TERM = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


def search_query(text: str) -> SearchQuery:
    """Parse web-search syntax: ``words "a phrase" -without this OR that begin*``.

    Never fails on punctuation, like ``websearch_to_tsquery``; ``a b OR c`` also means (a and b) or c.

    Raises:
        ValueError: the text is longer than 1,000 characters, holds NUL or more than 50 terms.
    """
    if len(text) > LONGEST_QUERY:
        raise ValueError(f"a search has at most {LONGEST_QUERY} characters")
    if "\0" in text:
        raise ValueError("a search cannot hold NUL characters")
    alternatives: list[list[SearchTerm]] = [[]]
    for match in _TERM.finditer(text):
        phrase, word = match["phrase"], match["word"]
        if word is not None and not match["minus"] and word.lower() == "or":
            alternatives.append([])
            continue
        words = tuple(_fold(phrase if word is None else word).split())
        if words and all(len(part) <= LONGEST_WORD for part in words):
            is_prefix = word is not None and word.endswith("*")
            alternatives[-1].append(SearchTerm(words, bool(match["minus"]), is_prefix))
    if sum(map(len, alternatives)) > MOST_TERMS:
        raise ValueError(f"a search has at most {MOST_TERMS} terms")
    return SearchQuery(tuple(tuple(terms) for terms in alternatives if terms))


def snippet(text: str, query: SearchQuery, width: int = 160) -> str | None:
    """Cut about ``width`` characters around the first hit, with hits between ``<mark>`` and ``</mark>``.

    The rest is HTML-escaped, so the result is safe in a page. Returns None if ``text`` has no term of the question.
    """
    patterns = [_surface_pattern(term) for terms in query.alternatives for term in terms if not term.negated]
    if not patterns:
        return None
    hit = re.compile("|".join(patterns), re.IGNORECASE)
    first = hit.search(text)
    if first is None:
        return None
    start = max(0, first.start() - width // 3)
    end = min(len(text), max(start + width, first.end()))
    pieces, position = ["…" if start else ""], start
    for match in hit.finditer(text, start, end):
        pieces += [html.escape(text[position : match.start()]), "<mark>", html.escape(match[0]), "</mark>"]
        position = match.end()
    pieces += [html.escape(text[position:end]), "…" if end < len(text) else ""]
    return "".join(pieces)


def _surface_pattern(term: SearchTerm) -> str:
    pattern = r"[\W_]+".join(map(re.escape, term.words))
    starts_unspaced, ends_unspaced = _units(term.words[0]), _units(term.words[-1])
    before = "" if starts_unspaced else r"(?<![^\W_])"
    after = "" if ends_unspaced or term.is_prefix else r"(?![^\W_])"
    return f"{before}{pattern}{after}"


def _fold(text: str) -> str:
    """Lower-case words with single spaces in place of everything else; set unspaced runs apart."""
    if text.isascii():
        return text.translate(_ASCII_FOLD)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = _SEPARATORS.sub(" ", _ARABIC_OPTIONAL.sub("", folded))
    return _UNSPACED_RUN.sub(lambda run: f" {run[0]} ", words)


def _units(word: str) -> list[str]:
    """Return the characters, with their marks, of a word in an unspaced script; empty for other words."""
    return _UNIT.findall(word) if _UNSPACED_RUN.match(word) else []


def _tokens(word: str) -> list[str]:
    units = _units(word)
    if not units:
        return [word]
    return [*map("".join, itertools.pairwise(units)), units[-1]]
