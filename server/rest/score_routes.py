"""Scores over HTTP: judgements of traces and spans by people, evaluations and applications.

The type of ``value`` decides the kind of score: a number is numeric, true or false is boolean, text is categorical. A
score may come before its trace. Repeating a request changes nothing: a ``score_id`` replaces the existing score, and
under the same ``Idempotency-Key`` header other contents are a conflict.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sanic import Blueprint, HTTPResponse, Request

from server.errors import Conflict, InvalidBody, NotFound
from server.http.audit_trail import noting
from server.http.envelope import success
from server.http.guard import requires
from server.http.json_body import expectation, is_instant, is_list, is_text, read_object
from server.http.path_value import path_value
from server.http.repeatable import idempotency_key, marked_repeatable, repeatable
from server.http.services import services_of
from server.http.target_project import target_project
from server.ingest.mapping.mapping_result import IngestWindow, ScoreRecord
from server.text.instants import parse_instant

scores = Blueprint("scores")

MOST_IN_BATCH: Final = 500
SOURCES: Final = ("human", "eval", "api")
_SHOWN: Final = (
    "project_id", "score_id", "trace_id", "span_id", "name", "data_type", "value", "string_value", "source",
    "comment", "ts", "created_at", "created_by",
)  # fmt: skip
_COMPARED: Final = ("trace_id", "span_id", "name", "data_type", "value", "string_value", "source", "comment")


def _is_value(value: Any) -> bool:
    """a number, true, false or a text"""
    if isinstance(value, str):
        return is_text(value)
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


FIELDS: Final = {
    "score_id": is_text,
    "trace_id": is_text,
    "span_id": is_text,
    "name": is_text,
    "value": _is_value,
    "source": is_text,
    "comment": is_text,
    "timestamp": is_instant,
}


@scores.post("/api/v1/scores", name="create_score")
@requires("scores:write")
@marked_repeatable
async def create_score(request: Request) -> HTTPResponse:
    """Add a score. 201 if it is new, 200 if it exists."""
    services, project_id = services_of(request), await target_project(request, "project_id")
    score = read_score(read_object(request, FIELDS, required=("trace_id", "name", "value")), "")
    await _redact(request, project_id, [score])
    key = idempotency_key(request)
    if key is not None:
        # The stored score is redacted, so only then can it be compared.
        score.score_id = keyed_id(project_id, key)
        row, is_new = await services.ingestion.scores.store_once(
            project_id, score, created_by=request.ctx.principal.subject
        )
        if not is_new and any(row[name] != getattr(score, name) for name in _COMPARED):
            raise Conflict("The Idempotency-Key was used for another score.")
        return success(request, {name: row[name] for name in _SHOWN}, status=201 if is_new else 200)
    rows = await store(request, project_id, [score])
    return success(request, rows[0], status=201 if rows[0].pop("is_new") else 200)


@scores.post("/api/v1/scores/batch", name="create_scores")
@requires("scores:write", cost=10)
@repeatable
async def create_scores(request: Request) -> HTTPResponse:
    """Add up to 500 scores, all or none: ``{"scores": [{…}, …]}``."""
    project_id = await target_project(request, "project_id")
    body = read_object(request, {"scores": is_list}, required=("scores",))
    if not 1 <= len(body["scores"]) <= MOST_IN_BATCH:
        raise InvalidBody.at("/scores", f"must have 1 to {MOST_IN_BATCH} entries")
    records = [_batch_entry(item, f"/scores/{place}") for place, item in enumerate(body["scores"])]
    await _redact(request, project_id, records)
    rows = await store(request, project_id, records)
    created = sum(row.pop("is_new") for row in rows)
    return success(request, rows, status=201 if created else 200, meta_fields={"created": created})


@scores.delete("/api/v1/scores/<score_id:str>", name="delete_score")
@requires("scores:write")
async def delete_score(request: Request, score_id: str) -> HTTPResponse:
    """Delete a score."""
    project_id, score_id = await target_project(request, "project_id"), path_value(score_id, "score_id")
    note = noting(request, "score.delete", projects=[project_id], target_type="score", target_id=score_id)
    if not await services_of(request).ingestion.scores.delete(project_id, score_id, note):
        raise NotFound("There is no such score.")
    return success(request, {"score_id": score_id, "deleted": True})


async def _redact(request: Request, project_id: str, records: list[ScoreRecord]) -> None:
    redactor = (await services_of(request).ingestion.projects.of(project_id)).redactor
    if redactor is not None:
        for record in records:
            redactor.redact_score(record)


async def store(request: Request, project_id: str, records: list[ScoreRecord]) -> list[dict[str, Any]]:
    """Store ``records``; return the rows with ``is_new``."""
    scores_of = services_of(request).ingestion.scores
    rows = await scores_of.store(project_id, records, created_by=request.ctx.principal.subject)
    return [{name: row[name] for name in (*_SHOWN, "is_new")} for row in rows]


def _batch_entry(item: Any, pointer: str) -> ScoreRecord:
    if not isinstance(item, dict):
        raise InvalidBody.at(pointer, "must be an object")
    for name, value in item.items():
        check = FIELDS.get(name)
        if check is None:
            raise InvalidBody.at(f"{pointer}/{name[:64]}", f"is unknown; expected {', '.join(sorted(FIELDS))}")
        if value is not None and not check(value):
            raise InvalidBody.at(f"{pointer}/{name}", f"expected {expectation(check)}")
    for name in ("trace_id", "name", "value"):
        if item.get(name) is None:
            raise InvalidBody.at(f"{pointer}/{name}", "is required")
    return read_score({name: value for name, value in item.items() if value is not None}, pointer)


def read_score(body: Mapping[str, Any], pointer: str) -> ScoreRecord:
    """Return the score in ``body``, whose members have the right types. Raises InvalidBody."""
    trace_id, span_id = body["trace_id"].lower(), body.get("span_id")
    if not re.fullmatch(r"(?!0{32})[0-9a-f]{32}", trace_id):
        raise InvalidBody.at(f"{pointer}/trace_id", "must be 32 hex digits, not all 0")
    if span_id is not None and not re.fullmatch(r"(?!0{16})[0-9a-fA-F]{16}", span_id):
        raise InvalidBody.at(f"{pointer}/span_id", "must be 16 hex digits, not all 0")
    for name, longest in (("name", 200), ("score_id", 128), ("comment", 8192)):
        if name in body and not 1 <= len(body[name]) <= longest:
            raise InvalidBody.at(f"{pointer}/{name}", f"must be 1 to {longest} characters long")
    source = body.get("source", "api")
    if source not in SOURCES:
        raise InvalidBody.at(f"{pointer}/source", f"must be one of {', '.join(SOURCES)}")
    data_type, number, text = _typed(body["value"], pointer)
    return ScoreRecord(
        score_id=body.get("score_id") or secrets.token_hex(16),
        trace_id=trace_id,
        span_id=span_id.lower() if span_id is not None else None,
        name=body["name"],
        data_type=data_type,
        value=number,
        string_value=text,
        source=source,
        comment=body.get("comment"),
        ts=_timestamp(body.get("timestamp"), pointer),
    )


def _typed(value: Any, pointer: str) -> tuple[str, float | None, str | None]:
    if isinstance(value, bool):
        return "boolean", float(value), None
    if isinstance(value, str):
        if not 1 <= len(value) <= 500:
            raise InvalidBody.at(f"{pointer}/value", "must be 1 to 500 characters long")
        return "categorical", None, value
    if abs(value) > 1e15:
        raise InvalidBody.at(f"{pointer}/value", "must be between -1e15 and 1e15")
    return "numeric", float(value), None


def _timestamp(text: str | int | None, pointer: str) -> datetime:
    now = datetime.now(UTC)
    if text is None:
        return now
    try:
        moment = parse_instant(text, now=now)
    except ValueError as error:
        raise InvalidBody.at(f"{pointer}/timestamp", str(error)) from error
    if moment > now + IngestWindow().max_future:
        raise InvalidBody.at(f"{pointer}/timestamp", "must not be in the future")
    return moment


def keyed_id(project_id: str, key: str) -> str:
    """Return the score id for an Idempotency-Key."""
    return hashlib.sha256(f"{project_id}\0{key}".encode()).hexdigest()[:32]
