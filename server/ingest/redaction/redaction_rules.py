"""Redaction: values that a project never wants stored are masked, hashed or dropped before anything is stored.

Off unless the project's settings have rules. Text rules run over every text of a span: input, output, messages,
attributes of the span, its resource, events and links, error message, status, tags, names, and, only if a rule says
``identities``, user and session ids; over scores, annotations, what log records add, and figures of coding agents. Key
rules look at the keys of attributes and of members, however deep, also of JSON inside texts. Names of providers and
models stay, because prices depend on them. The search index is built from the redacted texts.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from server.ingest.mapping.mapping_result import ScoreRecord
from server.ingest.mapping.span_record import SpanRecord
from server.ingest.messages.coercion import decode_json
from server.ingest.messages.message_rendering import render_messages
from server.ingest.redaction.finders import FINDERS, Finder
from server.ingest.redaction.linear_pattern import LinearPattern, Pattern, PatternError

MOST_RULES: Final = 50

_ACTIONS: Final = ("mask", "hash", "drop")


class InvalidRule(Exception):
    """A redaction rule cannot be used; the message names the rule by its position."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """Replaces the matches of ``finder`` in texts."""

    label: str
    finder: Finder
    action: str
    identities: bool


@dataclass(frozen=True, slots=True)
class KeyRule:
    """Replaces the whole value of attributes whose key matches."""

    label: str
    pattern: Pattern
    action: str


class Redactor:
    """The rules of one project, ready to run."""

    def __init__(self, texts: list[TextRule], keys: list[KeyRule], key: bytes) -> None:
        """``key`` is the key of ``hash`` rules: equal values stay equal, and nobody can try values out."""
        self._texts = texts
        self._identity_texts = [rule for rule in texts if rule.identities]
        self._keys = keys
        self._key = key

    def redact(self, record: SpanRecord) -> None:
        """Change ``record`` in place."""
        self._redact_messages(record)
        for name in _TEXT_FIELDS:
            value = getattr(record, name)
            if value:
                setattr(record, name, self._value(value))
        for name in _IDENTITY_FIELDS:
            value = getattr(record, name)
            if value and self._identity_texts:
                setattr(record, name, self._text(value, self._identity_texts) or None)
        for name in _DOCUMENT_FIELDS:
            value = getattr(record, name)
            if value:
                setattr(record, name, self._value(value))
        record.tags = [tag for tag in (self._text(tag, self._texts) for tag in record.tags) if tag]
        record.span_name = record.span_name or "[redacted]"
        record.environment = record.environment or "[redacted]"
        record.service_name = record.service_name or None
        record.service_version = record.service_version or None

    def _redact_messages(self, record: SpanRecord) -> None:
        """Redact messages; if that changed something, make their text of what is left.

        Their text has JSON of tools in the middle, in which rules about keys and escapes find nothing.
        """
        for side in ("input", "output"):
            messages: Any = getattr(record, f"{side}_messages")
            if not messages:
                continue
            kept = [self._message(message, self._texts) for message in messages]
            if kept != messages:
                text = getattr(record, f"{side}_text")
                is_cut = f"{side}_text" in (record.dropped or {})
                rendered = render_messages(kept)
                setattr(record, f"{side}_text", rendered[: len(text or "")] if is_cut else rendered)
            setattr(record, f"{side}_messages", kept)

    def _message(self, message: dict[str, Any], texts: list[TextRule]) -> dict[str, Any]:
        # Key rules are about content, not about the form of a message: its own members always stay.
        parts = [{name: self._value(value, texts) for name, value in part.items()} for part in message["parts"]]
        return {name: parts if name == "parts" else self._value(value, texts) for name, value in message.items()}

    def redact_columns(self, moment: datetime, columns: dict[str, Any]) -> dict[str, Any]:
        """Return ``columns`` of a span that is not stored yet, redacted like those of a span at ``moment``."""
        record = SpanRecord(ts=moment, trace_id="", span_id="", span_name="")
        known = [name for name in columns if name in _FIELDS]
        for name in known:
            setattr(record, name, columns[name])
        self.redact(record)
        return {**columns, **{name: getattr(record, name) for name in known}}

    def redact_keys(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return ``attributes`` after the key rules."""
        redacted: dict[str, Any] = self._value(attributes, [])
        return redacted

    def redact_text(self, text: str, *, is_identity: bool = False) -> str:
        """Return a free text, or the name of a person, after the text rules."""
        return self._text(text, self._identity_texts if is_identity else self._texts)

    def redact_score(self, score: ScoreRecord) -> None:
        """Change the free texts of ``score`` in place."""
        score.name = self._text(score.name, self._texts) or "[redacted]"
        if score.comment:
            score.comment = self._text(score.comment, self._texts)
        if score.string_value:
            score.string_value = self._text(score.string_value, self._texts) or "[redacted]"

    def _text(self, text: str, rules: list[TextRule]) -> str:
        for rule in rules:
            text = rule.finder.pattern.sub(lambda match, rule=rule: self._replaced(match[0], rule), text)  # type: ignore[misc]
        return text

    def _replaced(self, found: str, rule: TextRule) -> str:
        extent = rule.finder.extent(found)
        return self._substitute(found[:extent], rule.label, rule.action) + found[extent:] if extent else found

    def _substitute(self, found: str, label: str, action: str) -> str:
        if action == "drop":
            return ""
        if action == "hash":
            return f"[{label}:{hmac.new(self._key, found.encode(), hashlib.sha256).hexdigest()[:16]}]"
        return f"[{label}]"

    def _value(self, value: Any, texts: list[TextRule] | None = None) -> Any:
        texts = self._texts if texts is None else texts
        if isinstance(value, str):
            return self._text(self._inside(value, texts), texts)
        if isinstance(value, list):
            return [self._value(item, texts) for item in value]
        if isinstance(value, dict):
            result: dict[str, Any] = {}
            for key, item in value.items():
                rule = self._key_rule(key)
                if rule is None:
                    result[self._text(key, texts)] = self._value(item, texts)
                elif rule.action != "drop":
                    result[self._text(key, texts)] = self._substitute(str(item), rule.label, rule.action)
            return result
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 10_000_000:
            # A card or phone number may come as a number.
            redacted = self._text(str(value), texts)
            return value if redacted == str(value) else redacted
        return value

    def _inside(self, text: str, texts: list[TextRule]) -> str:
        """Return JSON in ``text`` after the rules; any other text, and JSON that they leave alone, is unchanged.

        Text rules need that only where an escape can hide what they find (``jane\\u0040example.com``).
        """
        if text[:1] not in ("{", "[") or not (self._keys or (texts and "\\" in text)):
            return text
        document = decode_json(text)
        if not isinstance(document, dict | list):
            return text
        kept = self._value(document, texts if "\\" in text else [])
        return text if kept == document else json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def _key_rule(self, key: str) -> KeyRule | None:
        for rule in self._keys:
            if rule.pattern.search(key):
                return rule
        return None


_FIELDS: Final = frozenset(field.name for field in fields(SpanRecord))
_TEXT_FIELDS: Final = (
    "span_name", "input_text", "output_text", "error_message", "error_type", "finish_reason", "agent_name",
    "tool_name", "prompt_name", "prompt_version", "input_type", "environment", "service_name", "service_version",
)  # fmt: skip
_IDENTITY_FIELDS: Final = ("user_id", "session_id")
_DOCUMENT_FIELDS: Final = (
    "attributes", "resource_attributes", "events", "links", "dropped",
)  # fmt: skip


def redactor_of(settings: Any, key: bytes) -> Redactor | None:
    """Return the redactor for ``{"rules": [...]}``; None without rules.

    A rule is ``{"find": a name of FINDERS, "action": …}``, ``{"pattern": "regular expression", "label": …, "action":
    …}`` or ``{"key": "regular expression on attribute keys", "action": …}``. ``action`` is mask (the default), hash or
    drop; ``"identities": true`` lets a text rule change user and session ids too. Raises
    :class:`InvalidRule`.
    """
    rules = settings.get("rules") if isinstance(settings, dict) else None
    if not isinstance(rules, list):
        raise InvalidRule("redaction.rules must be a list")
    if len(rules) > MOST_RULES:
        raise InvalidRule(f"redaction has more than {MOST_RULES} rules")
    texts: list[TextRule] = []
    keys: list[KeyRule] = []
    for place, rule in enumerate(rules):
        parsed = _parse_rule(place, rule)
        if isinstance(parsed, KeyRule):
            keys.append(parsed)
        else:
            texts.append(parsed)
    return Redactor(texts, keys, key) if rules else None


def _parse_rule(place: int, rule: Any) -> TextRule | KeyRule:
    name = f"redaction rule {place}"
    if not isinstance(rule, dict) or rule.keys() - {"find", "pattern", "key", "label", "action", "identities"}:
        raise InvalidRule(f"{name} must be an object with find, pattern or key, and with label, action and identities")
    action, label = rule.get("action", "mask"), rule.get("label", "redacted")
    if action not in _ACTIONS:
        raise InvalidRule(f"{name}: action must be one of {', '.join(_ACTIONS)}")
    if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9_ -]{1,40}", label):
        raise InvalidRule(f"{name}: label must be 1 to 40 letters, digits, blanks, _ or -")
    if len(rule.keys() & {"find", "pattern", "key"}) != 1:
        raise InvalidRule(f"{name} needs exactly one of find, pattern and key")
    identities = rule.get("identities") is True
    if "find" in rule:
        finder = FINDERS.get(rule["find"]) if isinstance(rule["find"], str) else None
        if finder is None:
            raise InvalidRule(f"{name}: find must be one of {', '.join(FINDERS)}")
        return TextRule(str(rule.get("label", rule["find"])), finder, action, identities)
    if "pattern" in rule:
        return TextRule(label, Finder(_pattern(name, rule["pattern"])), action, identities)
    return KeyRule(label, _pattern(name, rule["key"], any_case=True), action)


def _pattern(name: str, pattern: Any, *, any_case: bool = False) -> LinearPattern:
    if not isinstance(pattern, str):
        raise InvalidRule(f"{name}: the pattern must be text")
    try:
        return LinearPattern(pattern, any_case=any_case)
    except PatternError as error:
        raise InvalidRule(f"{name}: {error}") from error
