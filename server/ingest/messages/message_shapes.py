"""Messages of every dialect, read into one shape.

The shape is that of OpenTelemetry GenAI: ``{"role": …, "parts": [{"type": …}], "name"?, "finish_reason"?}`` with the
part types ``text``, ``reasoning``, ``tool_call``, ``tool_call_response``, ``blob``, ``uri`` and ``file``; a part of
another type stays as it is. Further shapes that are read: OpenAI chat and responses, Anthropic, Bedrock, Gemini, Vercel
AI, LangChain, and objects that hold such a list under ``messages``, ``contents``, ``choices`` and the like.
"""

from __future__ import annotations

from typing import Any

from server.ingest.messages.coercion import decode_json, to_text
from server.ingest.messages.message_parts import (
    VENDOR_CALLS,
    Part,
    is_own_text,
    read_part,
    read_parts,
    tool_call,
    with_calls,
    without_none,
)
from server.ingest.messages.message_repr import is_message_repr, read_message_repr
from server.ingest.messages.object_repr import is_object_repr, read_object_repr
from server.ingest.messages.python_calls import task_of_run

Message = dict[str, Any]

_MAX_UNWRAP = 4

_LIST_KEYS = (
    "messages", "input_messages", "contents", "choices", "candidates", "generations", "replies", "input", "output",
)  # fmt: skip
"""Keys of an object that hold its list of messages, for the bodies of requests and responses."""

_HOLDERS = ("kwargs", "inputs", "output", "outputs", "request", "body")
"""Keys of an object that hold the body of a request or of an answer."""

_LISTS, _OTHER_HOLDERS = frozenset(_LIST_KEYS), frozenset(_HOLDERS)

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "aimessagechunk": "assistant",
    "model": "assistant",
    "function": "tool",
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
"""Roles as others call them, and as LangChain's message types do."""

_REQUEST_TEXT = ("prompt", "input")
_REQUEST_SIGNS = frozenset({"system", "instructions", "model"})
"""A text under one of the first is the user's message if one of the second is beside it: the body of a
request to a completions or responses API. Alone it may be the argument of any function."""

_ROLE_KEYS = frozenset({"system", "user", "assistant", "human", "ai"})
"""Roles that are the only key of a message, as Monocle writes it: ``{"user": "How far?"}``."""

_RESULT_OF_AI_SDK = frozenset(
    ("text", "files", "toolCalls", "toolResults", "reasoning", "reasoningText", "sources", "warnings", "finishReason")
)
"""Keys of the object in which AI SDK and Mastra return an answer."""

_RESULT_OF_CREWAI = frozenset({"raw", "pydantic", "json_dict"})
"""Members of the result of a task or a crew of CrewAI; the messages on the way to it may be beside them."""

_ANSWER_OF_DSPY = frozenset({"text", "tool_calls", "reasoning_content", "citations", "logprobs"})
"""Keys of the objects in which DSPy's client returns its answers."""

_OWN_ROLES = frozenset({"system", "user", "assistant"})

_LONE_PARTS = {
    "function_call": "assistant", "function_call_output": "tool", "reasoning": "assistant",
    **dict.fromkeys(VENDOR_CALLS, "assistant"),
}  # fmt: skip
"""Parts that occur in a list of messages without being in a message, and the roles they belong to."""


def read_messages(value: Any, default_role: str) -> list[Message] | None:
    """Return the messages in an attribute value, or None if it is a plain value."""
    return _read(value, default_role, 0)


def _read(value: Any, default_role: str, depth: int) -> list[Message] | None:
    if depth > _MAX_UNWRAP:
        return None
    if isinstance(value, str):
        decoded = decode_json(value)
        return None if decoded is None else _read(decoded, default_role, depth + 1)
    if isinstance(value, dict):
        return _read_object(value, default_role, depth)
    if isinstance(value, list) and value:
        first = value[0]
        if len(value) == 1:
            if isinstance(first, dict):
                if first.get("lg_name") == "Command" or first.get("object") == "response":
                    return _read_object(first, default_role, depth + 1)
            elif isinstance(first, list) and _pair(first) is None:
                # LangChain: one list for each prompt
                return _read(first, default_role, depth + 1)
        if isinstance(first, dict):
            if "candidates" in first and all(
                isinstance(item, dict) and isinstance(item.get("candidates"), list) for item in value
            ):
                return _read_stream(value, default_role, depth)
            if "block_type" in first:  # LlamaIndex: the blocks of one message
                return [{"role": default_role, "parts": read_parts(value)}]
        messages = []
        unread = 0
        for item in value:
            if isinstance(item, str):  # a list attribute, each message as JSON text
                item = _read_text(item)
            if type(item) is dict and item.get("role") == "tool" and _is_tool_definition(item):
                continue
            message = read_message(item, default_role) or _keyed_message(item)
            if message is None:
                unread += 1
                if not isinstance(item, dict | list) or unread * 2 >= len(value):
                    return None
                message = {"role": default_role, "parts": read_parts(item)}
            if message["parts"] or not _is_lone_part(item):
                messages.append(message)
        if default_role == "assistant" and len(messages) > 1:
            messages = _joined(value, messages)
        # A list in which most items are no messages is a plain value; an odd one in a conversation costs itself only.
        return messages if unread * 2 < len(messages) else None
    return None


def _read_text(text: str) -> Any:
    """Return the message or other value that a text in a list of messages has."""
    if is_message_repr(text):
        return read_message_repr(text)
    return read_object_repr(text) if is_object_repr(text) else decode_json(text)


def _read_stream(answers: list[Any], default_role: str, depth: int) -> list[Message]:
    """Return the message of a stream of Gemini: answers, each with a piece of it, the last with the finish reason."""
    pieces = [piece for answer in answers for piece in _read(answer["candidates"], default_role, depth + 1) or ()]
    return _joined([{"finish_reason": piece.get("finish_reason")} for piece in pieces], pieces)


def _joined(items: list[Any], messages: list[Message]) -> list[Message]:
    """Return the messages of an answer with the pieces of one message put together: all but the last piece say that
    they have no finish reason.
    """
    if len(items) != len(messages) or any(_is_finished(item) for item in items[:-1]):
        return messages
    parts = [part for message in messages for part in message["parts"]]
    if any(message["role"] != "assistant" for message in messages):
        return messages
    words = [part for part in parts if is_own_text(part)]
    others = [part for part in parts if not is_own_text(part)]
    text = "".join(part["content"] for part in words)
    return [{**messages[-1], "parts": [*([{"type": "text", "content": text}] if words else []), *others]}]


def _is_finished(item: Any) -> bool:
    """Return whether a message says a finish reason, or nothing about it."""
    return not isinstance(item, dict) or bool(item.get("finish_reason", True))


def _read_object(value: dict[str, Any], default_role: str, depth: int) -> list[Message] | None:
    arguments = value.get("args")
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], dict):  # a call of a client's method
        messages = _read_object(arguments[0], default_role, depth + 1) if depth < _MAX_UNWRAP else None
        if messages is not None:
            return messages
    if "last_message" in value and default_role == "assistant":  # an agent of Haystack
        last = read_message(value["last_message"], default_role)
        if last is not None:
            return [last]
    if "raw" in value and default_role == "assistant" and value.keys() >= _RESULT_OF_CREWAI:
        return [{"role": "assistant", "parts": read_parts(value["raw"])}]
    if value.get("lg_name") == "Command" and isinstance(value.get("update"), dict):  # LangGraph
        return _read_object(value["update"], default_role, depth + 1) if depth < _MAX_UNWRAP else None
    for key in () if _LISTS.isdisjoint(value) else _LIST_KEYS:
        inner = value.get(key)
        if len(value) == 1 and (_is_lone_message(inner) or (isinstance(inner, str) and is_message_repr(inner))):
            inner = [inner]
        if isinstance(inner, list):
            messages = _read(inner, default_role, depth + 1)
            if messages is not None:
                # An answer of the responses API repeats the instructions; they are no part of the output.
                system = _system_of(value) if default_role == "user" else None
                if system:
                    return [{"role": "system", "parts": read_parts(system)}, *messages]
                return messages
    if default_role == "assistant" and isinstance(value.get("text"), str):
        answer = _answer_of_ai_sdk(value)
        if answer is not None:
            return [answer]
    for key in () if _OTHER_HOLDERS.isdisjoint(value) else _HOLDERS:
        if key == "request" and default_role == "assistant" and "message" in value:
            continue  # an answer of Genkit repeats what was asked
        inner = value.get(key)
        if type(inner) is dict and depth < _MAX_UNWRAP and _is_body(inner):
            messages = _read_object(inner, default_role, depth + 1)
            if messages is not None:
                return messages
    if default_role == "user" and (value.keys() == {"prompt"} or not _REQUEST_SIGNS.isdisjoint(value)):
        text = next((value[key] for key in _REQUEST_TEXT if isinstance(value.get(key), str)), None)
        if text:
            system = _system_of(value)
            head = [{"role": "system", "parts": read_parts(system)}] if system else []
            return [*head, {"role": "user", "parts": read_parts(text)}]
    task = task_of_run(value) if default_role == "user" and "task" in value else None
    if task is not None:
        return [{"role": "user", "parts": read_parts(task)}]
    message = read_message(value, default_role)
    if message is None and value.keys() == {"assistant"} == {default_role}:
        message = _keyed_message(value)  # a lone {"user": …} may be the argument of any function
    return None if message is None else [message]


def _answer_of_ai_sdk(value: dict[str, Any]) -> Message | None:
    """Return the message in a result of AI SDK or Mastra: a text beside the files, steps and calls of tools."""
    if not value.keys() <= _RESULT_OF_AI_SDK or not ("files" in value or "toolCalls" in value):
        return None
    parts = read_parts(value["text"])
    calls = value.get("toolCalls")
    if isinstance(calls, list):
        parts = with_calls(parts, [tool_call(call) for call in calls if isinstance(call, dict)])
    return {"role": "assistant", "parts": parts} if parts else None


def _is_body(value: dict[str, Any]) -> bool:
    """Return whether an object has a list of messages, or a message with its role."""
    message = value.get("message")
    return (isinstance(message, dict) and "role" in message) or any(type(value.get(key)) is list for key in _LIST_KEYS)


def _keyed_message(item: Any) -> Message | None:
    """Return the message in an object whose only key is its role."""
    if not isinstance(item, dict) or len(item) != 1:
        return None
    role, content = next(iter(item.items()))
    if role not in _ROLE_KEYS or not isinstance(content, str | list):
        return None
    return {"role": _ROLES[role], "parts": read_parts(content)}


def _system_of(request: dict[str, Any]) -> Any:
    """Return the instructions in the body of a request, beside its messages or among the settings (Gemini)."""
    system = request.get("system") or request.get("instructions")
    if not system:
        config = request.get("config")
        holder = config if isinstance(config, dict) else request
        system = holder.get("systemInstruction") or holder.get("system_instruction")
        if isinstance(system, dict) and "parts" in system:
            system = system["parts"]
    return system


def _pair(item: Any) -> Message | None:
    """Return the message in a pair of role and text, as LangChain takes them."""
    if not isinstance(item, list) or len(item) != 2 or not all(isinstance(part, str) for part in item):
        return None
    role = _ROLES.get(item[0].lower())
    return None if role is None else {"role": role, "parts": read_parts(item[1])}


def _is_lone_part(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("role") is not None:
        return False
    kind = item.get("type")
    return isinstance(kind, str) and kind in _LONE_PARTS


def read_message(item: Any, default_role: str) -> Message | None:
    """Return one message, or None if the item is something else."""
    if not isinstance(item, dict):
        return _pair(item)
    role, parts = item.get("role"), item.get("parts")
    if type(parts) is list and type(role) is str and role in _OWN_ROLES:
        return _own_message(item, role, parts)
    inner = item.get("message")
    if isinstance(inner, dict):  # an OpenAI choice, or a LangChain generation
        message = read_message({"role": default_role, **inner}, default_role)
        if message is not None and isinstance(item.get("finish_reason"), str):
            message.setdefault("finish_reason", item["finish_reason"])
        return message
    if _is_serialised(item):
        return read_message({"role": _langchain_role(item["id"]), **item["kwargs"]}, default_role)
    kind = item.get("type")
    if role is None and isinstance(kind, str) and kind.lower() in _ROLES:
        if isinstance(item.get("data"), dict):  # LangChain, as a dictionary
            return read_message({"role": kind, **item["data"]}, default_role)
        role = kind if "content" in item else None
    if role is None and isinstance(item.get("content"), dict) and "parts" in item["content"]:  # a Gemini candidate
        return read_message({"finish_reason": item.get("finishReason"), **item["content"]}, default_role)
    if role is None and isinstance(kind, str) and kind in _LONE_PARTS:  # an item of OpenAI's responses API
        return {"role": _LONE_PARTS[kind], "parts": read_part(item)}
    if role is None and not (
        isinstance(item.get("parts"), list)
        or (default_role == "assistant" and "text" in item and item.keys() <= _ANSWER_OF_DSPY)
    ):
        return None
    if not isinstance(role, str) or not role:
        role = default_role
    role = _ROLES.get(role.lower(), role.lower())
    if role == "unknown":
        role = default_role
    message = {"role": role, "parts": _message_parts(item, role)}
    for key in ("name", "finish_reason"):
        if isinstance(item.get(key), str) and item[key]:
            message[key] = item[key]
    return message


def _is_tool_definition(item: Message) -> bool:
    """Return whether the item is a tool that was offered, which some callbacks put among the messages as a tool's."""
    content = item.get("content")
    function = content.get("function") if isinstance(content, dict) else None
    return isinstance(function, dict) and "parameters" in function


def _own_message(item: Message, role: str, parts: list[Any]) -> Message:
    """Return a message that is already in the shape, as most are; only parts of other shapes are converted."""
    message: Message = {
        "role": role,
        "parts": [own for part in parts for own in ((part,) if is_own_text(part) else read_part(part))],
    }
    for key in ("name", "finish_reason"):
        if isinstance(item.get(key), str) and item[key]:
            message[key] = item[key]
    return message


def _is_serialised(value: Any) -> bool:
    """Return whether a value is a message as LangChain serialises it."""
    kwargs = value.get("kwargs") if isinstance(value, dict) else None
    return isinstance(kwargs, dict) and "content" in kwargs and isinstance(value.get("id"), list)


def _is_lone_message(value: Any) -> bool:
    """Return whether a value is a message of LangChain, serialised or as a dictionary."""
    if not isinstance(value, dict):
        return False
    return _is_serialised(value) or ("content" in value and "additional_kwargs" in value)


def _langchain_role(identifier: list[Any]) -> str:
    kind = str(identifier[-1]) if identifier else ""
    return kind.removesuffix("Chunk").removesuffix("Message").lower()


def _message_parts(item: dict[str, Any], role: str) -> list[Part]:
    if isinstance(item.get("parts"), list):
        parts = read_parts(item["parts"])
    elif isinstance(item.get("blocks"), list):
        parts = read_parts(item["blocks"])
    else:
        parts = read_parts(item.get("content"))
    if not parts:
        audio = item.get("audio")
        said = item.get("refusal") or (audio.get("transcript") if isinstance(audio, dict) else None) or item.get("text")
        parts = read_parts(said) if isinstance(said, str) else parts
    thinking = item.get("reasoning_content") or item.get("reasoning")
    if isinstance(thinking, str):
        parts.insert(0, {"type": "reasoning", "content": thinking})
    calls = item.get("tool_calls")
    if isinstance(calls, list):
        told = (_read_text(call) if isinstance(call, str) else call for call in calls)
        parts = with_calls(parts, [tool_call(call) for call in told if isinstance(call, dict)])
    if isinstance(item.get("function_call"), dict) and not calls:
        parts.append(tool_call(item))
    if role == "tool" and parts and all(part["type"] == "text" for part in parts):
        more = item.get("additional_kwargs")  # LlamaIndex
        call_id = (
            item.get("tool_call_id") or item.get("id") or (more if isinstance(more, dict) else {}).get("tool_call_id")
        )
        response = "\n".join(to_text(part.get("content")) for part in parts)
        return [without_none({"type": "tool_call_response", "id": call_id, "response": response})]
    return parts
