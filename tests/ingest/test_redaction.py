"""Redaction: what never reaches a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from server.ingest.project_settings import parse_ingest_settings
from server.ingest.redaction.finders import FINDERS, IBAN_LENGTHS, luhn_is_valid
from server.ingest.redaction.linear_pattern import LinearPattern
from server.ingest.redaction.redaction_rules import InvalidRule, Redactor, redactor_of
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.otlp_payloads import PROTOBUF, attribute, export_request
from tests.span_factory import make_span

KEY = b"a key for tests"
SECRETS = ("jane.doe@example.com", "4111 1111 1111 1111", "sk-abcdefghijklmnopqrstuvwx", "+41 44 668 18 00")
ALL = [{"find": name} for name in FINDERS]


def redactor(*rules: dict[str, Any]) -> Redactor:
    made = redactor_of({"rules": list(rules)}, KEY)
    assert made is not None
    return made


def redacted(text: str, *rules: dict[str, Any]) -> str | None:
    record = make_span(input_text=text)
    redactor(*rules).redact(record)
    return record.input_text


@pytest.mark.parametrize(
    ("find", "text", "expected"),
    [
        ("email", "write to jane.doe+x@mail.example.co.uk, please", "write to [email], please"),
        ("email", "no address: @home, a@b", "no address: @home, a@b"),
        ("card", "card 4111-1111-1111-1111.", "card [card]."),
        ("card", "order 4111-1111-1111-1112", "order 4111-1111-1111-1112"),
        ("card", "378282246310005", "[card]"),
        ("phone", "call +41 44 668 18 00 now", "call [phone] now"),
        ("phone", "call (030) 901820 now", "call [phone] now"),
        ("phone", "in 2024 there were 12 of 345", "in 2024 there were 12 of 345"),
        ("api_key", "OPENAI_API_KEY=sk-proj-abcdefghijklmnop1234", "OPENAI_API_KEY=[api_key]"),
        ("api_key", "AKIAIOSFODNN7EXAMPLE", "[api_key]"),
        ("ip", "from 192.168.12.1:80", "from [ip]:80"),
        ("ip", "version 1.2.3.4.5", "version 1.2.3.4.5"),
        ("ip", "from 2001:db8::1 and [2001:DB8:0:0:8:800:200C:417A]:443", "from [ip] and [[ip]]:443"),
        ("ip", "addr:fe80::1%eth0, ::1, ::ffff:192.0.2.1", "addr:[ip], [ip], [ip]"),
        ("ip", "2001:db8::1: unreachable, 2001:db8::/32.", "[ip] unreachable, [ip]/32."),
        ("ip", "at 12:30:45 std::vector, x :: y", "at 12:30:45 std::vector, x :: y"),
        ("ip", "from 10.0.0.1. Then ...10.0.0.2...", "from [ip]. Then ...[ip]..."),
        ("ip", r'{"from":"at\n2001:db8::1 or\t10.0.0.1"', r'{"from":"at\n[ip] or\t[ip]"'),
        ("email", "jane@münchen.de, o'brien@example.com, a@xn--e1afmkfd.xn--p1ai", "[email], [email], [email]"),
        ("email", "jane@example.com- and jane@example.com_", "[email]- and jane@example.com_"),
        ("phone", "+41\u00a044\u202f668‑18–00 or +41 44 668 18 00x123, 044 668 18 00 ext. 7",
         "[phone] or [phone], [phone]"),
        ("card", "4111\u00a01111‑1111\u202f1111", "[card]"),
        ("iban", "to DE89 3704 0044 0532 0130 00 OK, gb82west12345698765432.", "to [iban] OK, [iban]."),
        ("iban", r"pay\nCH93 0076 2011 6238 5295 7", r"pay\n[iban]"),
        ("iban", "DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130 01"),
        ("iban", "ZZ89370400440532013000, DE893704004405320130001", "ZZ89370400440532013000, DE893704004405320130001"),
        ("api_key", r"use\nsk-proj-abcdefghijklmnop1234 or\tghp_" + "a" * 36, r"use\n[api_key] or\t[api_key]"),
        ("api_key", f"sk-{'a' * 5000} ASIAIOSFODNN7EXAMPLE", "[api_key] [api_key]"),
        ("api_key", f"eyJhbGciOiJub25lIn0.eyJzdWIiOiJqYW5lIn0. eyJhbGciOiJIUzI1NiJ9.{'a' * 9000}.b",
         "[api_key] [api_key]"),
        ("api_key", "eyJhbGciOiJkaXIifQ..abcdef.abcdef.abcdef and eyJhbGciOiJub25lIn0",
         "[api_key] and eyJhbGciOiJub25lIn0"),
        ("api_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIa/b+c=\n-----END RSA PRIVATE KEY-----.", "[api_key]."),
        ("api_key", r"-----BEGIN PRIVATE KEY-----\nMIIabc", "[api_key]"),
    ],
)  # fmt: skip
def test_built_in_rules_find_what_they_say(find: str, text: str, expected: str) -> None:
    assert redacted(text, {"find": find}) == expected


def test_the_lengths_of_account_numbers_are_those_of_their_countries() -> None:
    """Examples of the registry."""
    for number in ("NO93 8601 1117 947", "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "FR14 2004 1010 0505 0001 3M02 606"):
        assert len(number.replace(" ", "")) == IBAN_LENGTHS[number[:2]]
        assert redacted(f"({number})", {"find": "iban"}) == "([iban])"


def test_escapes_and_keys_hide_nothing() -> None:
    """JSON as text: what its reader sees is redacted, and it stays JSON."""
    said = {"mail": "jürgen@example.com", "key": "see\nsk-abcdefghijklmnopqrst", "of jane@example.com": "pw"}
    texts = {
        "arguments": json.dumps(said),
        "php": r'{"tel":"044\/668\/18\/00","mail":"jane\u0040example.com",'
        r'"deep":"[\"\\u0073k-abcdefghijklmnopqrst\"]"}',
        "password of jane@example.com": "x",
    }
    record = make_span(attributes=dict(texts))
    redactor(*ALL, {"key": "^password"}).redact(record)
    assert json.loads(record.attributes["arguments"]) == {
        "mail": "[email]", "key": "see\n[api_key]", "of [email]": "pw"
    }  # fmt: skip
    php = json.loads(record.attributes["php"])
    assert (php["tel"], php["mail"], json.loads(php["deep"])) == ("[phone]", "[email]", ["[api_key]"])
    assert record.attributes["password of [email]"] == "[redacted]"
    plain = '{"a": "b\\nc"}'
    record = make_span(attributes={"text": plain})
    redactor(*ALL).redact(record)
    assert record.attributes["text"] == plain, "what no rule changes stays as it was written"


def test_the_text_of_messages_is_made_of_what_is_left_of_them() -> None:
    result = json.dumps({"mail": "jürgen@example.com"})
    parts = [{"type": "tool_call_response", "id": "1", "response": result}]
    messages = [{"role": "tool", "parts": parts}]
    record = make_span(input_messages=messages, input_text=f"[tool_result 1] {result}")
    redactor(*ALL).redact(record)
    assert "example" not in json.dumps(record.input_messages)
    assert record.input_text is not None
    assert "rgen" not in record.input_text
    assert "[email]" in record.input_text


def test_luhn_knows_valid_numbers() -> None:
    assert luhn_is_valid("4111111111111111")
    assert not luhn_is_valid("4111111111111112")


def test_the_actions_mask_hash_and_drop() -> None:
    assert redacted("to a@example.com!", {"find": "email", "action": "drop"}) == "to !"
    assert redacted("to a@example.com!", {"find": "email", "label": "mail"}) == "to [mail]!"
    hashed = redacted("a@example.com b@example.com a@example.com", {"find": "email", "action": "hash"})
    assert hashed is not None
    first, second, third = hashed.split()
    assert first == third != second
    assert first.startswith("[email:")
    other = redactor_of({"rules": [{"find": "email", "action": "hash"}]}, b"another key")
    assert other is not None
    record = make_span(input_text="a@example.com")
    other.redact(record)
    assert record.input_text != first


def test_custom_patterns_and_key_rules() -> None:
    assert (
        redacted("order AB-1234 is late", {"pattern": r"[A-Z]{2}-\d{4}", "label": "order"}) == "order [order] is late"
    )
    record = make_span(attributes={"user.password": "hunter2", "deep": {"Authorization": "x"}, "kept": "yes", "n": 5})
    redactor({"key": "password", "action": "mask"}, {"key": "^authorization$", "action": "drop"}).redact(record)
    assert record.attributes == {"user.password": "[redacted]", "deep": {}, "kept": "yes", "n": 5}


def test_key_rules_reach_json_in_texts_and_in_messages() -> None:
    """The arguments of a tool call are JSON in a text: once in the messages, once in the text made of them."""
    arguments = '{"password": "hunter2", "user": "ann"}'
    record = make_span(
        input_text=arguments,
        output_text=f"[tool_call login({arguments})]",
        output_messages=[
            {"role": "assistant", "parts": [
                {"type": "tool_call", "name": "login", "arguments": arguments},
                {"type": "tool_call", "name": "again", "arguments": {"deep": [{"Password": "hunter2"}]}},
            ]},
        ],
        attributes={"body": arguments, "list": '["password"]'},
    )  # fmt: skip
    redactor({"key": "password", "action": "drop"}, {"key": "^(role|parts|name|type)$"}).redact(record)
    assert record.input_text == '{"user":"ann"}'
    assert record.output_text == '[tool_call login({"user":"ann"})]\n[tool_call again({"deep":[{}]})]'
    assert "hunter2" not in str(record)
    assert record.attributes["list"] == '["password"]'
    untouched = make_span(input_text='{"a":  1}')
    redactor({"key": "password"}).redact(untouched)
    assert untouched.input_text == '{"a":  1}'


def test_names_of_services_and_environments_are_texts_and_names_of_models_are_not() -> None:
    record = make_span(
        environment="of jane@example.com", service_name="jane@example.com", service_version="4111111111111111",
        model="ft:gpt-4o:jane@example.com",
    )  # fmt: skip
    redactor({"find": "email", "action": "drop"}, {"find": "card"}).redact(record)
    assert (record.environment, record.service_name, record.service_version) == ("of ", None, "[card]")
    assert record.model == "ft:gpt-4o:jane@example.com"


def test_user_and_session_change_only_where_a_rule_says_so() -> None:
    record = make_span(user_id="jane@example.com", session_id="jane@example.com/1")
    redactor({"find": "email"}).redact(record)
    assert record.user_id == "jane@example.com"
    redactor({"find": "email", "action": "hash", "identities": True}).redact(record)
    assert record.user_id is not None
    assert record.user_id.startswith("[email:")
    assert record.session_id == record.user_id + "/1"


@pytest.mark.parametrize(
    "rule",
    [
        {"find": "everything"},
        {"find": "email", "action": "burn"},
        {"find": "email", "pattern": "x"},
        {"find": "email", "label": "]"},
        {"pattern": "("},
        {"pattern": ""},
        {"pattern": "x*"},
        {"pattern": r"(\w+)\1"},
        {"pattern": "(?=a)b"},
        {"pattern": "(a{1,500}){1,500}"},
        {"pattern": "(?:(?:(?:a{0,10}){0,10}){0,10})b"},
        {"pattern": 5},
        {"key": "(?<!a)b"},
        {"pattern": "a" * 501},
        {"unknown": 1},
        "email",
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_used_or_may_explode_is_refused(rule: Any) -> None:
    with pytest.raises(InvalidRule):
        redactor_of({"rules": [rule]}, KEY)


def test_the_built_in_rules_take_linear_time() -> None:
    """No text makes a pattern backtrack: 200 kB of the worst neighbours of a hit stay below a second."""
    for text in ("1 " * 100_000, "a" * 200_000, "a@" * 100_000, "a.b@c." * 33_000, "-" * 200_000, "eyJ" * 66_000):
        started = time.perf_counter()
        redacted(text, *ALL)
        assert time.perf_counter() - started < 2


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+b", "(a?a?)*b", "((aa)*)*b", "a*a*a*a*a*b", "(.|\\s)*b"])
def test_patterns_that_would_backtrack_for_ever_take_linear_time(pattern: str) -> None:
    started = time.perf_counter()
    assert str(redacted("a" * 200_000 + " é", {"pattern": pattern}, {"key": pattern})).startswith("aaa")
    assert time.perf_counter() - started < 2


def test_patterns_find_any_script_and_survive_half_characters() -> None:
    assert redacted("заказ № 12, bitte", {"pattern": r"\pL+ № \d+"}) == "[redacted], bitte"
    assert LinearPattern("b").sub(lambda match: match[0].upper(), "a\ud800b") == "a?B"


def test_without_rules_nothing_is_redacted() -> None:
    assert parse_ingest_settings({"redaction": {"rules": []}}, KEY).redactor is None
    assert parse_ingest_settings({}, KEY).redactor is None


async def test_no_text_surface_keeps_a_secret(
    app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    owner: asyncpg.Connection,
) -> None:  # fmt: skip
    await project("alpha")
    await owner.execute(
        "UPDATE projects SET settings = $1 WHERE project_id = 'alpha'", json.dumps({"redaction": {"rules": ALL}})
    )
    text = "my data: " + ", ".join(SECRETS)
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
    request = export_request(
        1,
        name=text,
        attributes={
            "gen_ai.input.messages": messages,
            "gen_ai.output.messages": messages,
            "gen_ai.agent.name": text,
            "note": text,
            "error.type": text,
            "number": 4111111111111111,
        },
    )
    resource = request.resource_spans[0]
    resource.resource.attributes.append(attribute("deployment.note", text))
    span = resource.scope_spans[0].spans[0]
    span.status.code, span.status.message = Status.STATUS_CODE_ERROR, text
    event = span.events.add(name="exception", time_unix_nano=span.start_time_unix_nano)
    event.attributes.append(attribute("exception.message", text))
    span.links.add(trace_id=b"1" * 16, span_id=b"1" * 8).attributes.append(attribute("note", text))
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    response = await client.post("/v1/traces", content=request.SerializeToString(), headers=headers)
    assert (response.status_code, response.content) == (200, b"")
    for table in (
        "llm_traces",
        "content_parts",
        "trace_summaries",
        "span_dimensions",
        "rollup_delta",
        "first_sightings",
    ):
        stored = str([dict(row) for row in await owner.fetch(f"SELECT * FROM {table}")])
        for secret in (*SECRETS, "4111111111111111"):
            assert secret not in stored, table
    vector = await owner.fetchval(
        "SELECT concat((SELECT search_vector::text FROM llm_traces),"
        " (SELECT string_agg(coalesce(words, plain_lexemes(plain_text(body, text)))::text, ' ') FROM content_parts))"
    )
    assert "example" not in vector
    assert "4111" not in vector
    assert "data" in vector


async def test_comments_of_scores_are_redacted(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    await owner.execute(
        "UPDATE projects SET settings = $1 WHERE project_id = 'alpha'", json.dumps({"redaction": {"rules": ALL}})
    )
    body = {"trace_id": "a" * 32, "name": "n", "value": "ask jane@example.com", "comment": "from jane@example.com"}
    response = await client.post("/api/v1/scores", json=body, headers=bearer("developer", ["alpha"]))
    assert response.status_code == 201
    assert tuple(await owner.fetchrow("SELECT string_value, comment FROM scores") or ()) == (
        "ask [email]",
        "from [email]",
    )


async def test_a_project_whose_rules_cannot_be_used_stores_nothing(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    """Better no data than data that was to be redacted."""
    await project("alpha")
    await owner.execute(
        "UPDATE projects SET settings = $1 WHERE project_id = 'alpha'",
        json.dumps({"redaction": {"rules": [{"pattern": "("}]}}),
    )
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    response = await client.post("/v1/traces", content=export_request(1).SerializeToString(), headers=headers)
    assert response.status_code == 503
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 0


async def test_an_admin_reads_and_replaces_the_settings_of_a_project(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker
) -> None:
    await project("alpha")
    await project("beta")
    path, headers = "/api/v1/projects/alpha/ingest-settings", bearer("admin", ["alpha"])
    wanted = {"ingest": {"spans_per_minute": 5}, "redaction": {"rules": [{"find": "email"}]}, "prices": {}}
    assert (await client.put(path, json=wanted, headers=headers)).status_code == 200
    assert (await client.get(path, headers=headers)).json()["data"] == wanted
    assert (await client.put(path, json={}, headers=headers)).status_code == 200
    assert (await client.get(path, headers=headers)).json()["data"] == {"ingest": {}, "redaction": {}, "prices": {}}
    bad: dict[str, Any]
    for bad in ({"redaction": {"rules": [{"pattern": "(?=a)"}]}}, {"ingest": {"spans": 1}}, {"other": {}}):
        assert (await client.put(path, json=bad, headers=headers)).status_code == 400
    assert (await client.put(path.replace("alpha", "beta"), json=wanted, headers=headers)).status_code == 403
    assert (await client.put(path, json=wanted, headers=bearer("developer", ["alpha"]))).status_code == 403
