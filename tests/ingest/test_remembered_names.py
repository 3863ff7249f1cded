"""Names that telemetry brings are kept in memory only if they are short and few."""

from __future__ import annotations

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.ingest.dialects.attribute_table import AttributeTable
from server.ingest.dialects.model_stem import model_stem
from server.ingest.pricing.price_catalog import PriceCatalog
from server.text.remembered import LONGEST, remembered

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_text_is_worked_out_once_and_a_long_one_each_time() -> None:
    asked: list[str] = []

    @remembered(3)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    short, long = "a" * LONGEST, "a" * (LONGEST + 1)
    assert [length(text) for text in (short, short, long, long)] == [LONGEST, LONGEST, LONGEST + 1, LONGEST + 1]
    assert asked == [short, long, long]


def test_a_memo_holds_so_many_and_goes_on_when_it_is_full() -> None:
    asked: list[str] = []

    @remembered(3)
    def upper(text: str) -> str:
        asked.append(text)
        return text.upper()

    assert [upper(text) for text in "abccddab"] == list("ABCCDDAB")
    assert "".join(asked) == "abcdab"  # d made it start afresh
    memo = upper.__self__  # type: ignore[attr-defined]
    assert len(memo) <= 3


def test_a_memo_that_is_full_of_one_senders_keys_still_learns_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.ingest.dialects.attribute_table._REMEMBERED_KEYS", 10)
    table = AttributeTable()
    for number in range(25):
        assert table[f"acme.unknown.{number}"].slot is None
    assert len(table) <= 10
    honest = "gen_ai.request.model"
    assert table[honest] is table[honest]
    assert honest in table
    long = "acme." + "x" * LONGEST
    assert table[long] == table[long]
    assert long not in table


def test_names_of_any_length_mean_the_same_as_before() -> None:
    assert model_stem("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0") == "claude-haiku-4-5"
    assert model_stem("a/" * 200_000 + "gpt-4.1-2025-04-14") == "gpt-4.1"


def test_no_function_of_ingest_keeps_texts_of_telemetry_without_bound() -> None:
    """``lru_cache`` bounds their number, ``cache`` nothing: event names of a megabyte once stayed by the thousand."""
    found = []
    for path in sorted((ROOT / "server/ingest").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                argument.annotation is not None and "str" in ast.unparse(argument.annotation)
                for argument in node.args.args
            ):
                memos = {ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in node.decorator_list}
                if memos & {"cache", "lru_cache"}:
                    found.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert found == []


def test_the_catalogue_forgets_which_models_have_prices_by_the_hour_with_their_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any name that begins like such a model is one of them, so a sender can name as many as it likes."""
    monkeypatch.setattr("server.ingest.pricing.price_catalog._REMEMBERED_CARDS", 5)
    catalog = PriceCatalog()
    night, day = (datetime(2025, 9, 1, hour, tzinfo=UTC) for hour in (20, 8))
    before = catalog.card("deepseek", "deepseek-chat", night), catalog.card("deepseek", "deepseek-chat", day)
    assert before[0] != before[1], "the model has prices by the hour"
    for number in range(40):
        catalog.card("deepseek", f"deepseek-chat-{number}", night)
    assert len(catalog._hourly) <= 6
    assert (catalog.card("deepseek", "deepseek-chat", night), catalog.card("deepseek", "deepseek-chat", day)) == before
