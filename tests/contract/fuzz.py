"""Generated requests from the OpenAPI document, checked against what the document promises (schemathesis)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import media_type
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
OPERATIONS_OF_OTHERS = ("/grafana", "/jaeger/", "/tempo/", "/prometheus/", "/v1/", "/oauth/")
"""Surfaces whose requests are not described in detail: generated requests there are only noise, sent all the same."""

NOT_GENERATED = ("/api/v1/traces/live", "/mcp")
"""An answer without an end, which tests/live reads, and a protocol of its own, which tests/mcp speaks."""

NO_FORM_IS_WRONG = ("/oauth/",)
"""Forms whose members are any text: the generator would look for a wrong one, at length and in vain."""

# A protobuf body is only bytes to a generator.
media_type("application/x-protobuf", st.binary(max_size=200))


def fuzz(
    document: Mapping[str, Any],
    base_url: str,
    callers: Sequence[Mapping[str, str]],
    *,
    seeded: Mapping[str, str],
    examples: int,
    mode: GenerationMode,
) -> int:
    """Send ``examples`` generated requests to each operation, each by all ``callers``; return how many were made.

    ``callers``: headers of each; making a request costs more than sending it four times. ``seeded``: values
    for path parameters that exist, used in half of the requests. Raises the first failed check.
    """
    schema = schemathesis.openapi.from_dict(dict(document))
    session = requests.Session()
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # an error of the document has no such method, and fails here
        if operation.path in NOT_GENERATED:
            continue
        if mode is GenerationMode.NEGATIVE and operation.path.startswith(NO_FORM_IS_WRONG):
            continue
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sent += _send(strategy, session, base_url, callers, seeded, examples, mode)
        except Unsatisfiable:
            # An operation that takes nothing has nothing to get wrong.
            if mode is GenerationMode.POSITIVE:
                raise
        except Exception as error:
            error.add_note(f"{operation.method} {operation.path}")
            raise
    return sent


def _send(
    strategy: st.SearchStrategy[Any],
    session: requests.Session,
    base_url: str,
    callers: Sequence[Mapping[str, str]],
    seeded: Mapping[str, str],
    examples: int,
    mode: GenerationMode,
) -> int:
    sent = 0

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, use_seeded=st.booleans())
    def send(case: Any, use_seeded: bool) -> None:
        nonlocal sent
        if use_seeded and mode is GenerationMode.POSITIVE:
            for name in case.path_parameters or {}:
                if name in seeded:
                    case.path_parameters[name] = seeded[name]
        sent += 1
        for headers in callers:
            response = case.call(base_url=base_url, headers=dict(headers), session=session)
            checks = list(CHECKS)
            too_long = response.status_code == 413  # refused before it was read: also a refusal
            if mode is GenerationMode.NEGATIVE and not too_long and not case.path.startswith(OPERATIONS_OF_OTHERS):
                checks.append(negative_data_rejection)
            case.validate_response(response, checks=checks)

    send()
    return sent
