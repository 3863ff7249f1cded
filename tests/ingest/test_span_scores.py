"""Judgements that come on spans are scores, with evaluator and explanation."""

from __future__ import annotations

from typing import Any

import pytest

from server.ingest.mapping.mapping_result import ScoreRecord
from tests.ingest.spans_in_both_encodings import SPAN_ID, event, map_document, request, span


def scores(values: dict[str, Any] | None = None, **fields: Any) -> list[ScoreRecord]:
    return map_document(request(span(values, **fields))).scores


def test_an_evaluation_event_is_a_score_of_its_span() -> None:
    values: dict[str, Any] = {
        "gen_ai__evaluation__name": "toxicity", "gen_ai__evaluation__score__value": 0.25,
        "gen_ai__evaluation__explanation": "mild", "gen_ai__evaluation__evaluator__id": "judge-3",
    }  # fmt: skip
    (score,) = scores(events=[event("gen_ai.evaluation.result", **values)])
    assert (score.name, score.value, score.comment, score.created_by) == ("toxicity", 0.25, "mild", "judge-3")
    assert (score.span_id, score.source, score.data_type) == (SPAN_ID, "eval", "numeric")


@pytest.mark.parametrize(
    ("prefix", "span_id"),
    [("annotations", SPAN_ID), ("evaluations", SPAN_ID), ("trace.annotations", None), ("session.evaluations", None)],
)
def test_an_annotation_of_openinference_is_a_score(prefix: str, span_id: str | None) -> None:
    kind = prefix.rpartition(".")[2].removesuffix("s")
    values = {
        f"{prefix}.0.{kind}.name": "tone", f"{prefix}.0.{kind}.label": "friendly",
        f"{prefix}.0.{kind}.annotator_kind": "HUMAN", f"{prefix}.0.{kind}.identifier": "kim",
        f"{prefix}.1.{kind}.name": "length", f"{prefix}.1.{kind}.score": 3,
        f"{prefix}.2.{kind}.explanation": "no name and no value",
    }  # fmt: skip
    tone, length = scores(values)
    assert (tone.string_value, tone.source, tone.created_by, tone.span_id) == ("friendly", "human", "kim", span_id)
    assert (length.value, length.source, length.data_type) == (3.0, "eval", "numeric")


@pytest.mark.parametrize(("given", "kind"), [("good", "categorical"), (True, "boolean"), (4, "numeric")])
def test_feedback_of_logfire_judges_the_span_above_it(given: Any, kind: str) -> None:
    values = {"logfire.feedback.name": "helpful", "helpful": given, "logfire.feedback.comment": "thanks"}
    (score,) = scores(values, parentSpanId="ab" * 8)
    assert (score.name, score.data_type, score.span_id, score.source) == ("helpful", kind, "ab" * 8, "human")
    assert score.comment == "thanks"


def test_the_same_span_again_is_the_same_score() -> None:
    values = {"annotations.0.annotation.name": "tone", "annotations.0.annotation.score": 1}
    assert scores(values)[0].score_id == scores(values)[0].score_id
