"""Facts from the bodies of a model call whose span lacks them (table: ``dialects/response_bodies.json``).

Frameworks that trace their own functions record what went in and what came out, and leave model and usage
inside it. The bodies are opened only for a model call without usage, without a model, or without parts of its usage
that an answer with the same input tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.attribute_choice import BODY_RANK, Candidate, IndexedGroup, SpanFields
from server.ingest.messages.coercion import decode_json, to_tokens
from server.ingest.messages.object_repr import is_object_repr, read_object_repr

_TABLE: dict[str, Any] = read_table("response_bodies.json")


def _paths(names: list[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split(".")) for name in names)


_USAGE_OBJECTS = _paths(_TABLE["usage_objects"])
_USAGE = tuple((slot, _paths(names)) for slot, names in _TABLE["usage"].items())
_MEMBERS = tuple((slot, _paths(names)) for slot, names in _TABLE["members"].items())
_DETAILS = tuple(rule for rule in _USAGE if rule[0] in _TABLE["details"])
_REQUEST = tuple((slot, _paths(names)) for slot, names in _TABLE["request"].items())
_NO_MODELS = frozenset(
    {
        "none",
        "unknown",
        "UNKNOWN",
        "Unknown",
        "unknown_model",
        "n/a",
        "N/A",
        "undefined",
        "null",
        "None",
        *read_table("price_names.json")["bedrock_vendors"],
    }
)
_PROMPT = dict(_USAGE)["prompt_tokens"]
_DETAIL_NAMES = tuple(slot for slot in _TABLE["details"] if slot != "total_tokens")
_WRITE_NAMES = tuple(slot for slot in _DETAIL_NAMES if slot.startswith("cache_write"))
_SIGNS_OF_WRITES = ("cache_creation", "cacheWrite", "cache_write")
_MODELS = ("model", "response_model", "request_model")


def read_body(fields: SpanFields) -> None:
    """Add what the recorded bodies say to ``fields``: usage where there is none or parts of it are missing, model,
    finish reason.
    """
    found = fields.found
    models = found.get("response_model") or found.get("model") or found.get("request_model")
    if models and models[0][2].__class__ is str and models[0][2] in _NO_MODELS:
        _leave_no_models(fields)
        models = found.get("response_model") or found.get("model") or found.get("request_model")
    has_usage = "prompt_tokens" in found or "completion_tokens" in found
    if models and has_usage:  # as most calls: no more than a look
        outputs = found.get("output")
        may_tell = _may_tell_usage if _lacks_details(found) else _may_tell_writes if _lacks_writes(found) else None
        if outputs and may_tell is not None and any(map(may_tell, outputs)):
            _read_details(fields)
        return
    if not models and "input" in found:
        _read_request(fields)
    if "output" not in found:
        return
    for position, (rank, key, value) in enumerate(found["output"]):
        body = decode_json(value) if isinstance(value, str) else value
        if isinstance(body, IndexedGroup) or not isinstance(body, dict | list):
            continue
        if body is not value:
            found["output"][position] = (rank, key, body)
        if isinstance(body, list):
            body = body[0] if body and isinstance(body[0], dict) else {}
        body = _with_objects(body)
        _add_first(fields, key, body, _MEMBERS)
        for path in () if has_usage else _USAGE_OBJECTS:
            usage = _member(body, path) if path[0] in body else None
            if isinstance(usage, dict):
                _add_first(fields, f"{key} {'.'.join(path)}", usage, _USAGE)
    if has_usage and (_lacks_details(found) or _lacks_writes(found)):
        _read_details(fields)


def _lacks_details(found: Mapping[str, Any]) -> bool:
    """Return whether the span tells no part of its usage."""
    return found.keys().isdisjoint(_DETAIL_NAMES)


def _lacks_writes(found: Mapping[str, Any]) -> bool:
    """Return whether the span tells what was read from the cache, and nothing of writes: OpenInference for JavaScript
    has a name for the first alone.
    """
    return "cached_tokens" in found and found.keys().isdisjoint(_WRITE_NAMES)


def _may_tell_writes(candidate: Candidate) -> bool:
    """Return whether an output may be a recorded answer that tells what was written to the cache."""
    value = candidate[2]
    return any(sign in value for sign in _SIGNS_OF_WRITES) if value.__class__ is str else value.__class__ is dict


def _may_tell_usage(candidate: Candidate) -> bool:
    """Return whether an output may be a recorded answer with its usage."""
    value = candidate[2]
    return ("usage" in value or "Usage" in value) if value.__class__ is str else value.__class__ is dict


def _leave_no_models(fields: SpanFields) -> None:
    """Leave what is no model's name among the attributes: its maker's, which some instrumentations cut out of it, and
    words for a missing value.
    """
    found = fields.found
    for slot in _MODELS:
        for candidate in found.get(slot, ()):
            value = candidate[2]
            if value.__class__ is str and value in _NO_MODELS:
                fields.keep(candidate)
                found[slot] = [other for other in found[slot] if other is not candidate]
        if slot in found and not found[slot]:
            del found[slot]


def _read_request(fields: SpanFields) -> None:
    """Add the model that the recorded request names."""
    for _, key, value in list(fields.found["input"]):
        body = decode_json(value) if isinstance(value, str) else value
        if isinstance(body, dict):
            _add_first(fields, key, body, _REQUEST)


def _read_details(fields: SpanFields) -> None:
    """Add parts of the usage that only the recorded answer tells, if its input is the span's: then both count alike."""
    found = fields.found
    prompts = found.get("prompt_tokens", ())
    for position, (rank, key, value) in enumerate(found["output"]):
        if isinstance(value, str):
            value = decode_json(value)
        if not isinstance(value, dict):
            continue
        found["output"][position] = (rank, key, value)
        value = _with_objects(value)
        prompt = to_tokens(prompts[0][2])[0] if len(prompts) == 1 else None
        for path in _USAGE_OBJECTS if prompt else ():
            usage = _member(value, path)
            if isinstance(usage, dict) and _first_member(usage, _PROMPT) == prompt:
                _add_first(fields, f"{key} {'.'.join(path)}", usage, _DETAILS)
                return


def _with_objects(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the first object of each list read, where Python wrote it as text: Haystack's replies."""
    read = {
        name: [first]
        for name, items in body.items()
        if isinstance(items, list)
        and items
        and isinstance(items[0], str)
        and is_object_repr(items[0])
        and (first := read_object_repr(items[0])) is not None
    }
    return {**body, **read} if read else body


def _add_first(
    fields: SpanFields, key: str, value: Any, slots: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
) -> None:
    for slot, paths in slots:
        for path in paths:
            if path[0] not in value:  # as most
                continue
            member = _member(value, path)
            if isinstance(member, str | int | float) and not isinstance(member, bool) and member != "":
                fields.add(slot, BODY_RANK, f"{key} {'.'.join(path)}", member)
                break


def _first_member(value: Any, paths: tuple[tuple[str, ...], ...]) -> Any:
    """Return the value at the first of ``paths`` that leads somewhere."""
    return next((member for path in paths if (member := _member(value, path)) is not None), None)


def _member(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value at ``path``, None if it leads nowhere."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
