"""Answers to list questions with ``meaning`` or ``like``: rows near in meaning, with words beside them if asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from server.embedding.vectors import Vector, from_bytes, unit
from server.errors import InvalidParameter, MeaningUnavailable, TraceNotFound
from server.queries.filters.filter_tree import Filter, Leaf, check_readable
from server.queries.filters.span_fields import FIELDS
from server.queries.lists.change_reader import Change, read_changed_spans
from server.queries.lists.feed_position import FeedPosition
from server.queries.lists.keyset import Position
from server.queries.lists.list_question import RANK, ListQuestion, Sort
from server.queries.lists.list_reader import ListPage, list_spans
from server.queries.lists.nearest_reader import (
    COMPARED,
    COMPARED_FIRST,
    COMPARED_FOR_EACH,
    POOL,
    Nearest,
    NearQuestion,
    NearSpan,
    models_in_range,
    read_nearest,
    read_ranked_traces,
)
from server.queries.lists.query_plan import explained
from server.queries.lists.ranking import Ranking, joined, ranking_of
from server.queries.lists.row_extras import add_extras
from server.queries.lists.row_layout import row_layout
from server.queries.lists.shown_rows import render_rows
from server.queries.lists.vector_memory import VectorMemory
from server.semantic.coverage import count_rows, count_vectors
from server.semantic.embedding_models import EmbeddingModel, EmbeddingModels
from server.semantic.question_vectors import QuestionVectors
from server.semantic.rank_fusion import ORDERED_BY, Key, NearRow, RankedRow, fused
from server.storage.database import Database
from server.storage.row_scope import RowScope
from server.storage.statements import statement

_KEYS: Final = ("ts", "trace_id", "span_id", "project_id")
MODELS_KEPT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The vectors that rows are compared with, by model. ``itself`` is the row that the question names. ``unasked``:
    models that have vectors in the range, but no vector of the question."""

    vectors: Mapping[int, Vector]
    unasked: tuple[str, ...] = ()
    itself: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """The place at which a page continues. All pages share ``cut`` and ``first``, which a :class:`NearQuestion`
    explains.
    """

    cut: datetime
    first: int
    order: tuple[Any, ...] = ()

    @classmethod
    def of(cls, position: Position) -> _Place:
        """Return the place of a cursor. A cursor of an earlier version lacks ``first``."""
        cut, *order = position
        return cls(cut, order.pop() if len(order) > ORDERED_BY else COMPARED, tuple(order))

    def position(self) -> Position:
        """Return the position for a cursor."""
        return (self.cut, *self.order, self.first)


class MeaningSearch:
    """Reads such lists for all surfaces of one process."""

    def __init__(self, reads: Database, questions: QuestionVectors, *, most_rows: int, memory_bytes: int) -> None:
        """``most_rows``: vectors of a project that one question compares. ``memory_bytes``: bound of the memory for
        their signs.
        """
        self._reads = reads
        self._questions = questions
        self._most = most_rows
        self._memory = VectorMemory(memory_bytes)
        self._models = EmbeddingModels(reads)
        self._known: tuple[float, list[EmbeddingModel]] = (0.0, [])

    async def close(self) -> None:
        """Close the connections to the embedder."""
        await self._questions.close()

    async def page(self, scope: RowScope, question: ListQuestion, *, explain: bool = False) -> ListPage:
        """Answer ``question``, whose filter has a ranking. Rows are as REST shows them.

        Raises:
            InsufficientScope: the scope may not read content.
            MeaningUnavailable: there is no embedder, or it does not answer.
            TraceNotFound: the trace or span of ``like`` does not exist.
        """
        ranking = ranking_of(question.filter)
        if ranking is None or question.filter is None:
            raise AssertionError("a question without a ranking is one for list_spans")
        check_readable(question.filter, scope)
        if not scope.projects:
            return ListPage([], meaning={"rows_in_range": 0, "rows_with_vectors": 0, "rows_looked_at": 0, "ranked": 0})
        place = None if question.position is None else _Place.of(question.position)
        cut = None if place is None else place.cut
        near_question = NearQuestion(
            view=question.view,
            window=question.window,
            filter=ranking.rest,
            most=self._most,
            cut=cut,
            first=_compared_first(question, ranking) if place is None else place.first,
            is_whole=False,
        )
        models = await self._all_models()
        asked = await self._asked(scope, ranking.by, near_question, models)
        plans: list[dict[str, Any]] | None = [] if explain else None
        (moment, near), found, rows = await asyncio.gather(
            self._near(scope, near_question, asked, plans),
            self._found(scope, question, ranking, cut),
            count_rows(self._reads, scope, near_question.span_window()),
        )
        looked_at = with_vectors = sum(part.looked_at for part in near)
        if not all(part.is_all for part in near):
            with_vectors = await count_vectors(self._reads, scope, near_question.span_window(), list(asked.vectors))
        # With "more like this" rows of the same text are wanted, so they are not folded.
        folds = question.view == "spans" and ranking.by.operator == "meaning"
        ranked = _ranked(question, near, found, folds=folds)
        first = near_question.first
        page = await self._page(scope, question, ranking, ranked, _Place(cut or moment, first), place)
        if page.next_position is None and any(part.has_more for part in near):
            # Rows may be gone by now, or say the same: what was compared first does not fill the page.
            moment, near = await self._near(scope, replace(near_question, is_whole=True), asked, plans)
            ranked = _ranked(question, near, found, folds=folds)
            page = await self._page(scope, question, ranking, ranked, _Place(cut or moment, first), place)
        names = {model.model_id: model.name for model in models}
        facts = {
            "models": [names[model_id] for model_id in asked.vectors],
            "rows_in_range": rows,
            "rows_with_vectors": with_vectors,
            "rows_looked_at": looked_at,
            "ranked": len(ranked),
        }
        notes = self._notes(facts, asked, is_bounded=any(part.is_bounded for part in near))
        if folds and any(row["same_text"] for row in page.rows):
            notes.append("Some rows stand for others that say the same, word for word: same_text counts them.")
        if page.next_position is None and max(len(found), *(len(part.spans) for part in near), 0) >= POOL:
            notes.append(f"The list ends with the {POOL} nearest rows.")
        return replace(page, plan=plans, meaning={**facts, "notes": notes})

    async def _all_models(self) -> list[EmbeddingModel]:
        now = asyncio.get_running_loop().time()
        kept_until, models = self._known
        if now >= kept_until or not models:
            models = await self._models.all()
            self._known = (now + MODELS_KEPT_SECONDS, models)
        return models

    async def _asked(
        self, scope: RowScope, by: Leaf, question: NearQuestion, models: Sequence[EmbeddingModel]
    ) -> _Asked:
        if by.operator == "like":
            return await self._like(scope, by.value, models)
        current = self._questions.model
        others = [model for model in models if model.name != current]
        used: set[int] = set()
        if others:
            async with self._reads.read(scope) as connection:
                used = await models_in_range(
                    connection, scope, question.span_window(), [model.model_id for model in others]
                )
        vector = await self._questions.vector(by.value, current)
        vectors: dict[int, Vector] = {}
        unasked = []
        for model in models:
            if model.name == current:
                if len(vector) != model.dimensions:
                    raise MeaningUnavailable(f"the embedder's vectors of {current} have another length than before")
                vectors[model.model_id] = vector
            elif model.model_id in used:
                try:
                    earlier = await self._questions.vector(by.value, model.name)
                except MeaningUnavailable:
                    unasked.append(model.name)
                    continue
                if len(earlier) == model.dimensions:
                    vectors[model.model_id] = earlier
                else:
                    unasked.append(model.name)
        return _Asked(vectors, tuple(unasked))

    async def _like(self, scope: RowScope, reference: str, models: Sequence[EmbeddingModel]) -> _Asked:
        """Return the mean of the vectors of a trace or span. No embedder is needed."""
        trace_id, _, span_id = reference.partition("/")
        key = (list(scope.projects), trace_id, span_id or None)
        async with self._reads.read(scope) as connection:
            records = await connection.fetch(statement("list_stored_vectors"), *key)
            is_stored = bool(records) or await connection.fetchval(statement("is_span_stored"), *key)
        if not is_stored:
            raise TraceNotFound()
        by_model: dict[int, list[bytes]] = {}
        for record in records:
            if record["vector"] is not None:
                by_model.setdefault(record["model_id"], []).append(record["vector"])
        if not by_model:
            if records:
                raise InvalidParameter.named("like", "nothing was said there that could be compared")
            raise MeaningUnavailable("there is no vector of it yet")
        dimensions = {model.model_id: model.dimensions for model in models}
        vectors = {
            model_id: unit(from_bytes(stored, dimensions[model_id]).mean(axis=0, keepdims=True))[0]
            for model_id, stored in by_model.items()
            if model_id in dimensions
        }
        return _Asked(vectors, itself=(trace_id, span_id or None))

    async def _near(
        self, scope: RowScope, question: NearQuestion, asked: _Asked, plans: list[dict[str, Any]] | None
    ) -> tuple[datetime, list[Nearest]]:
        """Return the database's moment and a ranking for each model, without the row that was named."""
        # Its statements read an index in its order; planning them each time, over all partitions, costs some ms.
        follows_index = question.filter is None and question.view == "spans"
        async with self._reads.read(scope, follows_index=follows_index) as connection:
            moment: datetime = await connection.fetchval(statement("database_now"))
            seen = explained(connection, plans)
            rankings = [
                await read_nearest(seen, scope, question, model_id, vector, self._memory, now=moment)
                for model_id, vector in asked.vectors.items()
            ]
        if asked.itself is not None:
            trace_id, span_id = asked.itself
            for ranking in rankings:
                ranking.spans[:] = [
                    span for span in ranking.spans if span.trace_id != trace_id or span_id not in {None, span.span_id}
                ]
        return moment, rankings

    async def _found(
        self, scope: RowScope, question: ListQuestion, ranking: Ranking, cut: datetime | None
    ) -> list[NearSpan]:
        """Return the rows that the search for words finds, the best first."""
        if ranking.search is None:
            return []
        tree: Filter | None = ranking.search
        window = NearQuestion(view=question.view, window=question.window, filter=None, most=0).span_window()
        if question.view == "spans":
            tree = joined(tree, ranking.rest)
        if cut is not None:
            tree = joined(tree, Leaf(FIELDS["ingested_at"], "lte", cut))
        page = await list_spans(
            self._reads, scope, ListQuestion(window=window, filter=tree, sort=(Sort(RANK),), fields=_KEYS, limit=POOL)
        )
        return [NearSpan(row["project_id"], row["ts"], row["trace_id"], row["span_id"], 0.0) for row in page.rows]

    async def _page(
        self,
        scope: RowScope,
        question: ListQuestion,
        ranking: Ranking,
        ranked: Sequence[RankedRow],
        start: _Place,
        after: _Place | None,
    ) -> ListPage:
        """Return the rows of the page behind ``after``. One that is gone by now, or does not pass, makes room for the
        next. ``start``: what all pages share.
        """
        waiting = [row for row in ranked if after is None or row.order > after.order]
        shown: list[dict[str, Any]] = []
        taken: list[RankedRow] = []
        # Rows are looked up by their keys; planning that for each page, over all partitions, costs 20 ms.
        follows_index = question.view == "spans" and ranking.rest is None and not question.include
        async with self._reads.read(scope, follows_index=follows_index) as connection:
            while waiting and len(shown) <= question.limit:
                wanted = question.limit + 1 - len(shown)
                batch, waiting = waiting[:wanted], waiting[wanted:]
                for place, row in await _rows(connection, scope, question, ranking, batch):
                    shown.append({**row, **batch[place].shown()})
                    taken.append(batch[place])
            has_more = len(shown) > question.limit
            del shown[question.limit :], taken[question.limit :]
            if question.include:
                extras = [
                    {"project_id": row.key[0], "trace_id": row.key[1], "ts": row.ts}
                    | ({"span_id": row.key[2]} if row.key[2] is not None else {})
                    for row in taken
                ]
                await add_extras(connection, scope, replace(question, filter=ranking.search), extras)
                for row, extra in zip(shown, extras, strict=True):
                    row.update({name: extra[name] for name in sorted(question.include)})
        fields, clipped = question.shown(), question.clipped()
        layout = row_layout(question.view, fields, (Sort("ts"),), scope.may_read_content, None, clipped)
        return ListPage(
            shown,
            replace(start, order=taken[-1].order).position() if has_more else None,
            None,
            layout.hidden,
            None,
            layout.clip(shown),
        )

    def _notes(self, facts: Mapping[str, Any], asked: _Asked, *, is_bounded: bool) -> list[str]:
        """Return what a reader must know of the rows that the list does not have."""
        notes = []
        rows, vectors = facts["rows_in_range"], facts["rows_with_vectors"]
        if vectors < rows:
            notes.append(
                "Rows without a vector say nothing, or are not embedded yet: only a search by words finds them."
            )
        if is_bounded and vectors > facts["rows_looked_at"]:
            notes.append(f"Only the newest {self._most} rows of each project with vectors were looked at.")
        if asked.unasked:
            notes.append(
                f"Rows with vectors of {', '.join(asked.unasked)} were not looked at: that model does not answer."
            )
        return notes


def _compared_first(question: ListQuestion, ranking: Ranking) -> int:
    """Return how many rows come before all others. Places in two rankings are only right if both are whole."""
    if ranking.search is not None:
        return COMPARED
    return min(COMPARED_FIRST + COMPARED_FOR_EACH * question.limit, COMPARED)


def _ranked(
    question: ListQuestion, near: Sequence[Nearest], found: Sequence[NearSpan], *, folds: bool
) -> list[RankedRow]:
    as_key = _span_key if question.view == "spans" else _trace_key
    return fused(
        [[NearRow(as_key(span), span.ts, span.similarity, span.text) for span in part.spans] for part in near],
        [(as_key(span), span.ts) for span in found],
        folds=folds,
    )


def _span_key(span: NearSpan) -> Key:
    return span.project_id, span.trace_id, span.span_id


def _trace_key(span: NearSpan) -> Key:
    return span.project_id, span.trace_id, None


async def _rows(
    connection: asyncpg.Connection,
    scope: RowScope,
    question: ListQuestion,
    ranking: Ranking,
    batch: Sequence[RankedRow],
) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of ``batch`` that still exist and pass the filter, in its order, each with its place."""
    fields = question.shown()
    if question.view == "traces":
        keys = [(row.key[0], row.key[1]) for row in batch]
        found = await read_ranked_traces(connection, scope, fields, question.window, ranking.rest, keys)
        render_rows([row for _, row in found])
        return found
    changes = {(row.key[0], row.key[1], str(row.key[2]), row.ts): place for place, row in enumerate(batch)}
    spans = await read_changed_spans(
        connection,
        scope,
        fields,
        [ranking.rest],
        [Change(*key, False, FeedPosition("")) for key in changes],
        clipped=question.clipped(),
    )
    return sorted(((changes[span.change.key], span.row) for span in spans), key=lambda item: item[0])
