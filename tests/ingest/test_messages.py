"""Messages of every shape become one shape, and one text (reference 3.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ingest.messages.message_rendering import render_messages
from server.ingest.messages.message_shapes import read_messages
from tests.ingest.spans_in_both_encodings import map_one

USER = {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
CALL = {"type": "tool_call", "id": "c1", "name": "get_weather", "arguments": {"city": "Paris"}}
RESULT = {"type": "tool_call_response", "id": "c1", "response": "sunny"}
ARGUMENTS = '{"city": "Paris"}'

SHAPES = [
    pytest.param([USER], [USER], id="genai"),
    pytest.param([{"role": "user", "content": "hi"}], [USER], id="openai"),
    pytest.param({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, [USER], id="openai-request"),
    pytest.param(
        {"system": "be brief", "messages": [{"role": "user", "content": "hi"}]},
        [{"role": "system", "parts": [{"type": "text", "content": "be brief"}]}, USER],
        id="anthropic-request",
    ),
    pytest.param([{"role": "user", "content": [{"type": "text", "text": "hi"}]}], [USER], id="content-parts"),
    pytest.param([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], [USER], id="openai-responses"),
    pytest.param([{"role": "user", "content": [{"text": "hi"}]}], [USER], id="bedrock"),
    pytest.param([{"role": "user", "text": "hi"}], [USER], id="text-in-place-of-content"),
    pytest.param({"args": [], "kwargs": {"messages": [{"role": "user", "content": "hi"}]}}, [USER], id="kwargs"),
    pytest.param({"inputs": {"messages": [{"role": "user", "content": "hi"}]}}, [USER], id="inputs-of-a-chain"),
    pytest.param({"output": {"message": {"role": "user", "content": [{"text": "hi"}]}}}, [USER], id="converse-answer"),
    pytest.param({"inputs": {"question": "hi", "messages": "none"}}, None, id="inputs-without-messages"),
    pytest.param({"kwargs": {"message": {"text": "hi"}}}, None, id="an-argument-that-is-called-message"),
    pytest.param({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, [USER], id="gemini"),
    pytest.param([[{"type": "human", "content": "hi"}]], [USER], id="langchain-typed"),
    pytest.param([{"type": "human", "data": {"content": "hi"}}], [USER], id="langchain-dictionary"),
    pytest.param(
        [[{"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"content": "hi"}}]],
        [USER],
        id="langchain-serialised",
    ),
    pytest.param(
        [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
                ],
            }
        ],
        [{"role": "assistant", "parts": [CALL]}],
        id="openai-tool-call",
    ),
    pytest.param(
        [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Paris"}}],
            }
        ],
        [{"role": "assistant", "parts": [CALL]}],
        id="anthropic-tool-call",
    ),
    pytest.param(
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "tool-call", "toolCallId": "c1", "toolName": "get_weather", "args": {"city": "Paris"}}
                ],
            }
        ],
        [{"role": "assistant", "parts": [CALL]}],
        id="vercel-tool-call",
    ),
    pytest.param(
        [{"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": ARGUMENTS}],
        [{"role": "assistant", "parts": [CALL]}],
        id="openai-responses-tool-call",
    ),
    pytest.param(
        [{"role": "model", "parts": [{"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}]}],
        [{"role": "assistant", "parts": [{key: value for key, value in CALL.items() if key != "id"}]}],
        id="gemini-tool-call",
    ),
    pytest.param(
        [{"role": "tool", "tool_call_id": "c1", "content": "sunny"}],
        [{"role": "tool", "parts": [RESULT]}],
        id="openai-tool-result",
    ),
    pytest.param(
        [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "sunny"}]}
                ],
            }
        ],
        [{"role": "user", "parts": [RESULT]}],
        id="anthropic-tool-result",
    ),
    pytest.param(
        [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "result": "sunny"}]}],
        [{"role": "tool", "parts": [RESULT]}],
        id="genai-result-instead-of-response",
    ),
    pytest.param(
        {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]},
        [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "stop"}],
        id="openai-answer",
    ),
    pytest.param(
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}]}],
        [{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hi"}]}],
        id="anthropic-thinking",
    ),
    pytest.param(
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}],
        [{"role": "user", "parts": [{"type": "uri", "modality": "image", "uri": "https://example.org/cat.png"}]}],
        id="image-url",
    ),
]


@pytest.mark.parametrize(("sent", "read"), SHAPES)
def test_shape_is_read(sent: Any, read: Any) -> None:
    assert read_messages(sent, "user") == read
    assert read_messages(json.dumps(sent), "user") == read


@pytest.mark.parametrize(
    "value", ["plain", "", None, 5, [], ["a", "b"], {"answer": 42}, '{"city": "Paris"}', "[1, 2]", "[not json"]
)
def test_what_is_no_message_is_left_alone(value: Any) -> None:
    assert read_messages(value, "user") is None


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([USER], "hi"),
        ([{**USER, "role": "assistant"}], "hi"),
        ([{**USER, "role": "system"}], "system: hi"),
        ([USER, {**USER, "role": "assistant"}], "user: hi\nassistant: hi"),
        ([{"role": "user", "parts": [*USER["parts"], {"type": "text", "content": "there"}]}], "hi\nthere"),
        ([{"role": "assistant", "parts": [CALL]}], '[tool_call get_weather({"city":"Paris"})]'),
        ([{"role": "tool", "parts": [RESULT]}], "tool: [tool_result c1] sunny"),
        ([{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]}], "[reasoning] hm"),
        ([{"role": "user", "parts": [{"type": "blob", "modality": "image", "content": "AAAA"}]}], "[image]"),
        ([{"role": "user", "parts": [{"type": "uri", "modality": "audio", "uri": "x"}]}], "[audio]"),
        ([{"role": "user", "parts": [{"type": "file", "modality": "document", "file_id": "x"}]}], "[document]"),
        (
            [{"role": "user", "parts": [{"type": "server_tool_call", "name": "web"}]}],
            '{"type":"server_tool_call","name":"web"}',
        ),
    ],
)
def test_text_of_messages(messages: Any, text: str) -> None:
    assert render_messages(messages) == text


def test_openinference_messages_are_put_together() -> None:
    record = map_one(
        {
            "llm.input_messages.1.message.role": "assistant",
            "llm.input_messages.1.message.tool_calls.0.tool_call.id": "c1",
            "llm.input_messages.1.message.tool_calls.0.tool_call.function.name": "get_weather",
            "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments": ARGUMENTS,
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.1.message_content.type": "image",
            "llm.input_messages.0.message.contents.1.message_content.image.image.url": "https://example.org/cat.png",
            "llm.input_messages.0.message.contents.0.message_content.type": "text",
            "llm.input_messages.0.message.contents.0.message_content.text": "hi",
            "llm.input_messages.2.message.role": "tool",
            "llm.input_messages.2.message.tool_call_id": "c1",
            "llm.input_messages.2.message.content": "sunny",
            "input.value": "the same once more",
        }
    )
    assert record.input_messages == [
        {
            "role": "user",
            "parts": [*USER["parts"], {"type": "uri", "modality": "image", "uri": "https://example.org/cat.png"}],
        },
        {"role": "assistant", "parts": [CALL]},
        {"role": "tool", "parts": [RESULT]},
    ]
    assert record.input_type == "multimodal"
    assert "input.value" not in record.attributes


def test_openllmetry_messages_are_put_together() -> None:
    record = map_one(
        {
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "be brief",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": '[{"type": "text", "text": "hi"}]',
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.finish_reason": "tool_calls",
            "gen_ai.completion.0.tool_calls.0.id": "c1",
            "gen_ai.completion.0.tool_calls.0.name": "get_weather",
            "gen_ai.completion.0.tool_calls.0.arguments": ARGUMENTS,
        }
    )
    assert record.input_text == "system: be brief\nuser: hi"
    assert record.output_messages == [{"role": "assistant", "parts": [CALL], "finish_reason": "tool_calls"}]
    assert record.finish_reason == "tool_calls"


def test_openinference_prompts_choices_and_embedding_texts() -> None:
    record = map_one({"llm.prompts.0.prompt.text": "once upon", "llm.choices.0.completion.text": "a time"})
    assert (record.input_text, record.output_text) == ("once upon", "a time")
    vectors = {
        "openinference.span.kind": "EMBEDDING",
        "embedding.embeddings.0.embedding.text": "words",
        "embedding.embeddings.0.embedding.vector": [0.1, 0.2],
        "output.value": "[0.1, 0.2]",
    }
    record = map_one(vectors)
    assert (record.input_text, record.output_text) == ("words", None)
    assert record.dropped == {"output_text": {"reason": "embedding_vectors"}}


def test_system_instructions_stand_first_and_once() -> None:
    question = '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'
    record = map_one(
        {"gen_ai.system_instructions": '[{"type":"text","content":"be brief"}]', "gen_ai.input.messages": question}
    )
    assert record.input_text == "system: be brief\nuser: hi"


def test_structured_attribute_values_read_like_json_text() -> None:
    as_text = map_one({"gen_ai.input.messages": json.dumps([USER])})
    as_value = map_one({"gen_ai.input.messages": [USER]})
    assert as_text.input_messages == as_value.input_messages == [USER]


def test_vercel_tool_calls_join_the_answer() -> None:
    calls = (
        '[{"toolCallType":"function","toolCallId":"c1","toolName":"get_weather","args":"{\\"city\\": \\"Paris\\"}"}]'
    )
    record = map_one({"ai.response.text": "I look it up.", "ai.response.toolCalls": calls})
    assert record.output_text == 'I look it up.\n[tool_call get_weather({"city":"Paris"})]'


def test_generation_a_events_with_json_content() -> None:
    from tests.ingest.spans_in_both_encodings import event

    record = map_one(
        {"gen_ai.system": "az.ai.inference"},
        events=[
            event("gen_ai.user.message", gen_ai__event__content='{"role": "user", "content": "hi"}'),
            event("gen_ai.choice", message='{"role": "assistant", "content": "yes"}', finish_reason="stop", index=0),
        ],
    )
    assert (record.input_text, record.output_text, record.finish_reason) == ("hi", "yes", "stop")
    assert (record.dialect, record.provider) == ("genai_a", "azure")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "parts",
                    "type",
                    "text",
                    "message",
                    "tool_calls",
                    "data",
                    "kwargs",
                    "id",
                    "image_url",
                    "messages",
                    "modality",
                    "name",
                    "function",
                ]
            ),
            inner
            | st.sampled_from(
                ["user", "text", "tool_use", "tool_result", "image", "reasoning", "ai", "document", "input_audio"]
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(value=_json)
def test_any_json_reads_to_messages_that_render_or_to_none(value: Any) -> None:
    messages = read_messages(value, "user")
    if messages is not None:
        assert isinstance(render_messages(messages), str)
        json.dumps(messages)


@pytest.mark.parametrize("kind", [[], ["x"], {}, {"type": "x"}, 7, True])
def test_a_type_that_is_no_text_is_content_like_any_other(kind: object) -> None:
    for value in ([{"type": kind, "parts": []}], [{"type": kind}], {"type": kind, "arguments": "{}"}):
        record = map_one({"gen_ai.output.messages": json.dumps(value)})
        assert record.finish_reason is None
        read_messages([{"role": "assistant", "content": value, "tool_calls": value}], "assistant")
