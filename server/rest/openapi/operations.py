"""The input and output of each route, except what its handler, path and access policy define.

A route without a row here is still in the document, with its path parameters, its scope and the envelope.
tests/contract checks that no row is left over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from server.export.formats import COMPRESSIONS, FORMATS
from server.http.json_body import Check, is_flag, is_instant, is_number, is_object, is_text, is_texts, is_whole
from server.queries.filters.filter_params import FILTER_PARAMETERS, FilterParameter
from server.queries.filters.span_fields import FIELDS, FieldType
from server.queries.lists.list_question import INCLUDE_ALIASES, INCLUDES, LARGEST_LIMIT, RANK, TOTALS, VIEWS
from server.queries.lists.session_reader import SESSIONS, USERS, SummaryKind
from server.queries.metrics.facet_reader import LARGEST_LIMIT as LARGEST_FACET_LIMIT
from server.queries.metrics.metric_question import COMPARISONS, FILLS, MAX_GROUPS
from server.reports.cost_report import ATTRIBUTION_DIMENSIONS, FORECAST_PERIODS
from server.rest import (
    annotation_routes,
    audit_routes,
    budget_routes,
    client_routes,
    coding_agent_routes,
    export_job_routes,
    ingest_settings_routes,
    key_routes,
    price_routes,
    project_routes,
    score_routes,
)
from server.rest.export_request import EXPORT_PARAMETERS, NOT_TAKEN
from server.rest.list_request import LIST_PARAMETERS
from server.rest.live_request import LIVE_PARAMETERS, TAKEN
from server.rest.metric_request import DOCUMENT_MEMBERS, METRIC_PARAMETERS
from server.rest.openapi.operation import Operation, Parameter, query
from server.rest.openapi.other_operations import OTHER_OPERATIONS
from server.rest.openapi.schemas import TEXT, Schema, list_of, object_of, reference, value_schema
from server.rest.report_request import REPORT_PARAMETERS

# At most 100 different values: repeats do not count, so maxItems would refuse valid requests.
LISTED: Final[Schema] = {**list_of({"type": "string", "minLength": 1}), "minItems": 1}
FLAG: Final[Schema] = {"type": "string", "enum": ["true", "false", "1", "0"]}
ORDER: Final[Schema] = {"type": "string", "enum": ["asc", "desc"]}


def page_size(largest: int) -> Schema:
    """Return the schema of ``limit``."""
    return {"type": "integer", "minimum": 1, "maximum": largest}


def _filter_parameter(parameter: FilterParameter) -> Parameter:
    field = FIELDS[parameter.field]
    item = value_schema(field) if field.type is not FieldType.TAGS else TEXT
    if item.get("type") == "string" and "enum" not in item:
        item = {**item, "minLength": 1}
    schema = {**LISTED, "items": item} if parameter.is_list else item
    note = " Negated as name!=value." if parameter.is_negatable else ""
    return query(parameter.name, schema, parameter.sentence + note)


def _project(description: str) -> Parameter:
    return query("project_id", LISTED, description)


_LIST_SCHEMAS: Final[dict[str, Schema]] = {
    "project_id": LISTED,
    "view": {"type": "string", "enum": list(VIEWS)},
    "sort_by": {**LISTED, "items": {"type": "string", "enum": [*VIEWS["spans"].sortable(), RANK]}},
    "sort_order": ORDER,
    "fields": LISTED,
    "include": {**LISTED, "items": {"type": "string", "enum": [*INCLUDES, *INCLUDE_ALIASES]}},
    "total": {"type": "string", "enum": list(TOTALS)},
    "limit": page_size(LARGEST_LIMIT),
    "explain": FLAG,
}
FILTERS: Final = tuple(_filter_parameter(parameter) for parameter in FILTER_PARAMETERS.values())
LIST: Final = tuple(query(name, _LIST_SCHEMAS.get(name, TEXT), text) for name, text in LIST_PARAMETERS.items())
REPORT: Final = tuple(
    query(name, LISTED if name == "project_id" else TEXT, text) for name, text in REPORT_PARAMETERS.items()
)
CURSOR: Final = query("cursor", TEXT, LIST_PARAMETERS["cursor"])
EXPLAIN: Final = query("explain", FLAG, LIST_PARAMETERS["explain"])
ONE_PROJECT: Final = _project("The project; needed only if several of your projects have this id.")
_TARGET: Final = _project("The project; needed if the credential grants several.")
PROJECTS: Final = _project(LIST_PARAMETERS["project_id"])
WINDOW: Final = tuple(query(name, TEXT, LIST_PARAMETERS[name]) for name in ("from", "to"))


def _summaries(kind: SummaryKind, item: str) -> Operation:
    ids = [query(kind.id, LISTED, f"Only these {kind.id}s.")]
    if kind is SESSIONS:
        ids.append(query("user_id", LISTED, "Sessions in which one of these users took part."))
    return Operation(
        parameters=(
            *WINDOW,
            PROJECTS,
            *ids,
            query("sort_by", {"type": "string", "enum": list(kind.sort_keys)}, "The sort key; default last_ts."),
            query("sort_order", ORDER, "desc (default) or asc."),
            query("limit", page_size(LARGEST_LIMIT), LIST_PARAMETERS["limit"]),
            CURSOR,
            EXPLAIN,
        ),
        data=list_of(reference(item)),
        is_paged=True,
        is_conditional=True,
    )


def _summary(item: str) -> Operation:
    return Operation(
        parameters=(
            ONE_PROJECT,
            query("sort_order", ORDER, "Order of the traces by start: asc (default) or desc."),
            query("limit", page_size(LARGEST_LIMIT), "Traces per page, 1 to 1,000; default 50."),
            CURSOR,
            EXPLAIN,
        ),
        data=reference(item),
        is_paged=True,
        is_conditional=True,
    )


def _body(members: Mapping[str, Check], required: Iterable[str]) -> Schema:
    types: dict[Check, Schema] = {
        is_text: TEXT,
        is_texts: list_of(TEXT),
        is_whole: {"type": "integer"},
        is_object: {"type": "object"},
        is_number: {"type": ["number", "string"]},
        is_instant: {"type": ["integer", "string"]},
        is_flag: {"type": "boolean"},
    }
    return object_of(
        {name: types.get(check, {}) for name, check in members.items()}, required=tuple(required), closed=True
    )


_ROWS: Final = list_of({"anyOf": [reference("Span"), reference("TraceSummary")]})
_SEARCH: Final = Operation(body=reference("Search"), data=_ROWS, is_paged=True, is_conditional=True)
_OTLP: Final = Operation(
    body={},
    body_types=("application/x-protobuf", "application/json"),
    parameters=(query("project", TEXT, "The project."),),
)
_FIELDS_PARAMETER: Final = query("fields", LISTED, "Fields and groups of fields in each span; default all.")
_REPORT: Final = Operation(parameters=(*REPORT, *FILTERS))
_OVER_TIME: Final = Operation(
    parameters=(*REPORT, *FILTERS, query("interval", TEXT, "Width of the buckets, such as 5m, 1h, 1d; default auto."))
)

_EXPORT_SCHEMAS: Final[dict[str, Schema]] = {
    "format": {"type": "string", "enum": list(FORMATS)},
    "compression": {"type": "string", "enum": list(COMPRESSIONS)},
    "guard": FLAG,
    "trailer": FLAG,
}

_METRIC_SCHEMAS: Final[dict[str, Schema]] = {
    "metric": LISTED,
    "project_id": LISTED,
    "group_by": LISTED,
    "max_points": {"type": "integer", "minimum": 1},
    "fill": {"type": "string", "enum": list(FILLS)},
    "order": ORDER,
    "limit": page_size(MAX_GROUPS),
    "other": FLAG,
    "compare": {"type": "string", "enum": list(COMPARISONS)},
    "explain": FLAG,
}

_LIVE: Final = (
    *(parameter for parameter in LIST if parameter["name"] in TAKEN),
    *FILTERS,
    *(query(name, TEXT, text) for name, text in LIVE_PARAMETERS.items()),
)

# By route name (blueprint and name of the handler).
OPERATIONS: Final[dict[str, Operation]] = {
    "traces.list": Operation(parameters=(*LIST, *FILTERS), data=_ROWS, is_paged=True, is_conditional=True),
    "traces.search": _SEARCH,
    "traces.query": _SEARCH,
    "trace_detail.get_trace": Operation(
        parameters=(
            ONE_PROJECT,
            _FIELDS_PARAMETER,
            query("limit", page_size(1000), "Spans per page, 1 to 1,000; default 1,000."),
            CURSOR,
            EXPLAIN,
        ),
        data=reference("Trace"),
        is_paged=True,
        is_conditional=True,
    ),
    "trace_detail.get_span": Operation(
        parameters=(ONE_PROJECT, _FIELDS_PARAMETER), data=reference("Span"), is_conditional=True
    ),
    "sessions.list_sessions": _summaries(SESSIONS, "Session"),
    "sessions.list_users": _summaries(USERS, "User"),
    "sessions.get_session": _summary("Session"),
    "sessions.get_user": _summary("User"),
    "facets.list_facet_values": Operation(
        parameters=(
            *WINDOW,
            PROJECTS,
            query("prefix", {**TEXT, "minLength": 1}, "Only values that begin with this text; case is ignored."),
            # "contains" has the same name as a filter of lists; here it is about the values.
            query("contains", {**TEXT, "minLength": 1}, "Only values that contain this text; case is ignored."),
            query("limit", page_size(LARGEST_FACET_LIMIT), "Values, 1 to 1,000; default 50."),
            EXPLAIN,
            *(parameter for parameter in FILTERS if parameter["name"] != "contains"),
        ),
        data=list_of(reference("FacetValue")),
        is_conditional=True,
    ),
    "analytics.costs": _OVER_TIME,
    "analytics.performance": _OVER_TIME,
    "analytics.quality": _OVER_TIME,
    "analytics.models": Operation(
        parameters=(*REPORT, *FILTERS, query("limit", page_size(200), "Models, 1 to 200; default 50."))
    ),
    "analytics.models_compare": Operation(
        parameters=(*REPORT, *FILTERS, query("models", LISTED, "The models to compare, two to ten."))
    ),
    "analytics.optimization": _REPORT,
    "mcp.messages": Operation(body={"type": "object"}, statuses=(200, 202)),
    "live.events": Operation(parameters=_LIVE, media_types=("text/event-stream",)),
    "live.socket": Operation(parameters=_LIVE),
    "exports.stream": Operation(
        parameters=(
            *(parameter for parameter in LIST if parameter["name"] not in (*NOT_TAKEN, "sort_by")),
            *FILTERS,
            *(query(name, _EXPORT_SCHEMAS.get(name, TEXT), text) for name, text in EXPORT_PARAMETERS.items()),
        ),
        media_types=tuple(dict.fromkeys(kind.media_type.partition(";")[0] for kind in FORMATS.values())),
    ),
    "export_jobs.create": Operation(
        body=object_of(
            {
                **{name: {} for name in export_job_routes.JOB_MEMBERS},
                "format": _EXPORT_SCHEMAS["format"],
                "compression": _EXPORT_SCHEMAS["compression"],
                "guard": {"type": "boolean"},
            },
            closed=True,
        ),
        statuses=(202,),
    ),
    "export_jobs.read": Operation(
        parameters=(
            query(
                "bytes",
                {"type": "integer", "minimum": 0},
                "The size of your file in bytes, to get the last place to continue from within it.",
            ),
        )
    ),
    "export_jobs.file": Operation(media_types=("application/octet-stream", "application/json")),
    "coding_agents.figures": Operation(
        parameters=tuple(
            query(name, TEXT if name in ("from", "to") else LISTED, text)
            for name, text in coding_agent_routes.PARAMETERS.items()
        )
    ),
    "costs.attribution": Operation(
        parameters=(
            *REPORT,
            *FILTERS,
            query(
                "dimension",
                {"type": "string", "enum": list(ATTRIBUTION_DIMENSIONS)},
                "The dimension to split by. Required.",
            ),
            query("min_total_cost", {"type": "number"}, "Leave out values that cost less, in US dollars."),
            query("limit", page_size(1000), "Values, 1 to 1,000; default 100."),
        )
    ),
    "costs.forecast": Operation(
        parameters=(
            *REPORT,
            *FILTERS,
            query(
                "period",
                {"type": "string", "enum": list(FORECAST_PERIODS)},
                "Length of the forecast; default next_month.",
            ),
            query("days", {"type": "integer", "minimum": 1, "maximum": 365}, "Length of the forecast in days."),
            query(
                "confidence",
                {"type": "number", "minimum": 0.5, "maximum": 0.999},
                "Probability that the intervals cover; default 0.95.",
            ),
        )
    ),
    "metrics.rows": Operation(
        parameters=(
            *(query(name, _METRIC_SCHEMAS.get(name, TEXT), text) for name, text in METRIC_PARAMETERS.items()),
            *FILTERS,
        ),
        data=list_of({"type": "object"}),
        is_conditional=True,
    ),
    "metrics.query": Operation(
        body=object_of({name: {} for name in DOCUMENT_MEMBERS}, required=("metrics", "from"), closed=True),
        is_conditional=True,
    ),
    "metrics.summary": Operation(
        parameters=(*REPORT, *FILTERS, query("top", page_size(50), "Rows of each ranking; default 5."))
    ),
    "budgets.list": Operation(parameters=(PROJECTS,)),
    "budgets.put": Operation(body=_body(budget_routes.MEMBERS, ("name", "amount_usd", "period")), statuses=(200, 201)),
    "annotations.list_annotations": Operation(
        parameters=(
            *WINDOW,
            PROJECTS,
            query("tags", LISTED, "Only annotations with any of these tags."),
            query("limit", page_size(1000), "Most annotations in the answer."),
        )
    ),
    "audit.list_audit": Operation(
        parameters=(
            *WINDOW,
            query("action", TEXT, "Only this action, such as api_key.create."),
            query("actor", TEXT, "Only this actor."),
            query(
                "outcome",
                {"type": "string", "enum": list(audit_routes.OUTCOMES)},
                "Only actions that were done, or only those refused.",
            ),
            query("limit", page_size(1000), "Rows per page."),
            CURSOR,
        )
    ),
    "costs.summary": Operation(
        parameters=(*REPORT, *FILTERS, query("top", page_size(100), "Rows of each ranking; default 10."))
    ),
    "keys.create_key": Operation(body=_body(key_routes.FIELDS, ("label", "kind")), statuses=(201,)),
    "clients.create_client": Operation(body=_body(client_routes.FIELDS, ("client_name", "role")), statuses=(201,)),
    "projects.create_project": Operation(body=_body(project_routes.FIELDS, ("project_id",)), statuses=(201,)),
    "annotations.add_annotation": Operation(body=_body(annotation_routes.FIELDS, ("title",)), statuses=(201,)),
    "scores.delete_score": Operation(parameters=(_TARGET,)),
    "scores.create_score": Operation(
        parameters=(_TARGET,), body=_body(score_routes.FIELDS, ("trace_id", "name", "value")), statuses=(200, 201)
    ),
    "scores.create_scores": Operation(
        parameters=(_TARGET,),
        body=object_of(
            {"scores": list_of(_body(score_routes.FIELDS, ("trace_id", "name", "value")))}, required=("scores",)
        ),
        statuses=(200, 201),
    ),
    "prices.list": Operation(parameters=(PROJECTS,)),
    "prices.store": Operation(
        body=_body(price_routes.PRICE_FIELDS, ("provider", "model", "input_usd_per_mtok", "output_usd_per_mtok")),
        parameters=(ONE_PROJECT,),
        statuses=(200, 201),
    ),
    "prices.delete": Operation(
        parameters=(
            ONE_PROJECT,
            {**query("provider", TEXT, "Provider of the price."), "required": True},
            {**query("model", TEXT, "Model of the price."), "required": True},
            query("valid_from", TEXT, "Start of the price's validity; default: the beginning of time."),
        )
    ),
    "prices.unpriced": Operation(parameters=(PROJECTS, *WINDOW)),
    "prices.reprice": Operation(body=_body(price_routes.REPRICE_FIELDS, ("from",)), parameters=(ONE_PROJECT,)),
    "prices.delete_trace": Operation(parameters=(ONE_PROJECT,)),
    "erasure.erase_user": Operation(parameters=(_TARGET,)),
    "ingest_settings.replace": Operation(body=_body(ingest_settings_routes.FIELDS, ())),
    "otlp.export_traces": _OTLP,
    "otlp.export_logs": _OTLP,
    "otlp.export_metrics": _OTLP,
    "otlp.explain_traces": _OTLP,
    **OTHER_OPERATIONS,
}
