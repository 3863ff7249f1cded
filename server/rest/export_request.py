"""Conversion of a request to an export: the question of a list without its paging parameters, and the options of a
file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sanic import Request

from server.access.principal import Principal
from server.errors import InvalidBody, InvalidCursor, InvalidParameter
from server.export.daily_exports import SCHEDULE_OWNER
from server.export.export_question import document_of
from server.export.export_run import resumed
from server.export.export_store import Export, Part, owner_key
from server.export.formats import COMPRESSIONS, FORMATS, EncodingOptions
from server.http.page_cursor import caller_binding
from server.http.request_params import RequestParams
from server.http.services import services_of
from server.queries.lists.cursor import continuation
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import VIEWS, ListQuestion, select_fields
from server.rest.list_request import ListRequest, request_from_document, request_from_params

EXPORT_PARAMETERS: Final[dict[str, str]] = {
    "format": f"{', '.join(FORMATS)}; default ndjson.",
    "compression": "none (default), gzip or zstd; for Parquet the codec of the columns, by default zstd.",
    "guard": (
        "CSV: true (default) puts an apostrophe before texts that a spreadsheet would compute or read as a number."
    ),
    "trailer": "NDJSON and OTLP: true (default) ends the file with a line that has the number of rows and a checksum.",
    "after": "The place from which to continue an export that was cut off: `after` of GET /api/v1/exports/{export_id}.",
}
NOT_TAKEN: Final = ("cursor", "limit", "include", "total", "explain", "meaning", "like")
"""Parameters of lists that an export, which has every row, refuses."""

NOT_OF_WHOLE_SPANS: Final = ("fields", "view")
"""Parameters of lists that formats with whole spans refuse."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A caller's request for an export, before its relative times are resolved."""

    list_request: ListRequest
    format: str
    options: EncodingOptions
    after: str | None = None

    def question(self, now: datetime) -> ListQuestion:
        """Return the list question.

        :raises InvalidParameter: a condition or the order cannot be used here.
        """
        question = self.list_request.question(now)
        if [key.field for key in question.sort] != ["ts"]:
            raise InvalidParameter.named("sort_by", "an export is sorted by ts")
        if FORMATS[self.format].has_whole_spans:
            question = replace(question, fields=select_fields(VIEWS[question.view], ["all"]))
        return question


@dataclass(frozen=True, slots=True)
class Resumption:
    """The place from which an export continues, and the rows and bytes before it."""

    position: Position
    rows: int
    size: int
    cut: datetime
    """The database's time when the export began: relative times of its question are resolved against it."""


def export_from_params(params: RequestParams) -> ExportRequest:
    """Read the query parameters of an export."""
    name = params.choice("format", tuple(FORMATS), "ndjson")
    options = EncodingOptions(
        compression=params.choice("compression", tuple(COMPRESSIONS), "none"),
        guard=params.flag("guard", default=True),
        trailer=params.flag("trailer", default=True),
    )
    after = params.text("after")
    for refused in NOT_TAKEN:
        if (refused, False) in params.given:
            raise InvalidParameter.named(refused, "an export has every row and does not take this parameter")
    if FORMATS[name].has_whole_spans:
        for refused in NOT_OF_WHOLE_SPANS:
            if (refused, False) in params.given:
                raise InvalidParameter.named(
                    refused, f"a file of format {name} has whole spans and does not take this parameter"
                )
    return ExportRequest(request_from_params(params), name, options, after)


def export_from_document(document: dict[str, Any]) -> ExportRequest:
    """Read the document that creates a job: that of a search, with ``format`` and the options of the file."""
    for refused in NOT_TAKEN:
        if refused in document:
            raise InvalidBody.at(f"/{refused}", "an export has every row and does not take this member")
    question = dict(document)
    name = _choice(question, "format", tuple(FORMATS), "parquet")
    options = EncodingOptions(
        compression=_choice(question, "compression", tuple(COMPRESSIONS), "none"),
        guard=_flag(question, "guard"),
        trailer=_flag(question, "trailer"),
    )
    if FORMATS[name].has_whole_spans:
        for refused in NOT_OF_WHOLE_SPANS:
            if refused in document:
                raise InvalidBody.at(f"/{refused}", f"format {name} has whole spans and does not take this member")
    return ExportRequest(request_from_document(question), name, options)


def open_resumption(request: Request, asked: ExportRequest) -> Resumption | None:
    """Return the place from which ``asked`` continues; None for an export from the start.

    :raises InvalidCursor: ``after`` belongs to another caller or question, or the format cannot be continued.
    """
    if asked.after is None:
        return None
    if not FORMATS[asked.format].can_resume:
        raise InvalidCursor(f"A {asked.format} file cannot be continued. Begin again, or export from a later time.")
    binding = caller_binding(request, asked.list_request.projects)
    opened = services_of(request).cursors.open(asked.after, binding=binding)
    opened.check_question(export_identity(document_of(asked.question(opened.now)), asked.format, asked.options))
    *position, rows, size = opened.position
    return Resumption(tuple(position), rows, size, opened.now)


def sealed_resumption(request: Request, export: Export, part: Part) -> str | None:
    """Return the ``after`` with which the caller continues after ``part``; None if that is not possible."""
    if part.position is None or not FORMATS[export.format].can_resume:
        return None
    options = stored_options(export)
    identity = export_identity(export.question, export.format, options)
    rows = export.rows_before + part.row_count
    start = continuation((*part.position, rows, part.byte_count), question=identity, now=export.cut_at)
    binding = caller_binding(request, export.options["requested_projects"])
    return services_of(request).cursors.seal(start, binding=binding)


def export_identity(document: Mapping[str, Any], name: str, options: EncodingOptions) -> dict[str, Any]:
    """Return everything that a request must repeat to continue an export of the question ``document``."""
    return {**document, "export": [name, options.compression, options.guard, options.trailer]}


def stored_options(export: Export) -> EncodingOptions:
    """Return the options with which the files of ``export`` are written."""
    return EncodingOptions(
        compression=export.compression, guard=export.options["guard"], trailer=export.options["trailer"]
    )


def options_of(asked: ExportRequest, resumption: Resumption | None) -> EncodingOptions:
    """Return the options of the file: those of the request, and the rows before it if it continues another file."""
    return asked.options if resumption is None else resumed(asked.options, resumption.rows)


def owner_of(request: Request) -> str:
    """Return the key under which the exports of the caller of ``request`` are found: its account, since the operator
    may have given the same subject to several tenants.
    """
    principal: Principal = request.ctx.principal
    return owner_key({"kind": principal.kind, "account": principal.account or principal.subject})


def readable_owners(request: Request) -> tuple[str, ...]:
    """Return the keys of the exports that the caller may read: its own, and with the grant ``*`` the daily ones,
    too."""
    own = owner_of(request)
    return (own, SCHEDULE_OWNER) if request.ctx.principal.sees_every_project else (own,)


def _choice(document: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = document.pop(name, default)
    if value not in choices:
        raise InvalidBody.at(f"/{name}", f"expected one of {', '.join(choices)}")
    return str(value)


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.pop(name, True)
    if not isinstance(value, bool):
        raise InvalidBody.at(f"/{name}", "expected true or false")
    return value
