"""Messages of every dialect, read into one shape.

The shape is that of OpenTelemetry GenAI: ``{"role": …, "parts": [{"type": …}], "name"?, "finish_reason"?}`` with the
part types ``text``, ``reasoning``, ``tool_call``, ``tool_call_response``, ``blob``, ``uri`` and ``file``; a part of
another type stays as it is. Further shapes that are read: OpenAI chat and responses, Anthropic, Bedrock, Gemini, Vercel
AI, LangChain, and objects that hold such a list under ``messages``, ``contents``, ``choices`` and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.ingest.messages.coercion import decode_json, to_text

Message = dict[str, Any]
Part = dict[str, Any]

_MAX_UNWRAP = 4

_LIST_KEYS = (
    "messages", "input_messages", "contents", "choices", "candidates", "generations", "replies", "input", "output",
)  # fmt: skip
"""Keys of an object that hold its list of messages, for the bodies of requests and responses."""

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

_OWN_ROLES = frozenset({"system", "user", "assistant"})

_LONE_PARTS = {"function_call": "assistant", "function_call_output": "tool", "reasoning": "assistant"}
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
        if len(value) == 1 and isinstance(value[0], list):  # LangChain: one list for each prompt
            return _read(value[0], default_role, depth + 1)
        messages = []
        unread = 0
        for item in value:
            if isinstance(item, str):  # a list attribute, each message as JSON text
                item = decode_json(item)
            if _is_tool_definition(item):
                continue
            message = _read_message(item, default_role)
            if message is None:
                unread += 1
                if not isinstance(item, dict | list) or unread * 2 >= len(value):
                    return None
                message = {"role": default_role, "parts": read_parts(item)}
            messages.append(message)
        # A list in which most items are no messages is a plain value; an odd one in a conversation costs itself only.
        return messages if unread * 2 < len(messages) else None
    return None


def _read_object(value: dict[str, Any], default_role: str, depth: int) -> list[Message] | None:
    for key in _LIST_KEYS:
        inner = value.get(key)
        if isinstance(inner, list):
            messages = _read(inner, default_role, depth + 1)
            if messages is not None:
                # An answer of the responses API repeats the instructions; they are no part of the output.
                system = (value.get("system") or value.get("instructions")) if default_role == "user" else None
                if system:
                    return [{"role": "system", "parts": read_parts(system)}, *messages]
                return messages
    if default_role == "user" and not _REQUEST_SIGNS.isdisjoint(value):
        text = next((value[key] for key in _REQUEST_TEXT if isinstance(value.get(key), str)), None)
        if text:
            system = value.get("system") or value.get("instructions")
            head = [{"role": "system", "parts": read_parts(system)}] if system else []
            return [*head, {"role": "user", "parts": read_parts(text)}]
    message = _read_message(value, default_role)
    return None if message is None else [message]


def _read_message(item: Any, default_role: str) -> Message | None:
    """Return one message, or None if the item is something else."""
    if not isinstance(item, dict):
        return None
    role, parts = item.get("role"), item.get("parts")
    if type(parts) is list and type(role) is str and role in _OWN_ROLES:
        return _own_message(item, role, parts)
    inner = item.get("message")
    if isinstance(inner, dict):  # an OpenAI choice, or a LangChain generation
        message = _read_message({"role": default_role, **inner}, default_role)
        if message is not None and isinstance(item.get("finish_reason"), str):
            message.setdefault("finish_reason", item["finish_reason"])
        return message
    kwargs = item.get("kwargs")
    if isinstance(kwargs, dict) and "content" in kwargs and isinstance(item.get("id"), list):  # LangChain, serialised
        return _read_message({"role": _langchain_role(item["id"]), **kwargs}, default_role)
    kind = item.get("type")
    if role is None and isinstance(kind, str) and kind.lower() in _ROLES:
        if isinstance(item.get("data"), dict):  # LangChain, as a dictionary
            return _read_message({"role": kind, **item["data"]}, default_role)
        role = kind if "content" in item else None
    if role is None and isinstance(item.get("content"), dict) and "parts" in item["content"]:  # a Gemini candidate
        return _read_message({"finish_reason": item.get("finishReason"), **item["content"]}, default_role)
    if role is None and isinstance(kind, str) and kind in _LONE_PARTS:  # an item of OpenAI's responses API
        return {"role": _LONE_PARTS[kind], "parts": _read_part(item)}
    if role is None and not isinstance(item.get("parts"), list):
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


def _is_tool_definition(item: Any) -> bool:
    """Return whether the item is a tool that was offered, which some callbacks put among the messages as a tool's."""
    content = item.get("content") if isinstance(item, dict) and item.get("role") == "tool" else None
    function = content.get("function") if isinstance(content, dict) else None
    return isinstance(function, dict) and "parameters" in function


def _is_own_text(part: Any) -> bool:
    return type(part) is dict and part.get("type") == "text" and type(part.get("content")) is str


def _own_message(item: Message, role: str, parts: list[Any]) -> Message:
    """Return a message that is already in the shape, as most are; only parts of other shapes are converted."""
    message: Message = {
        "role": role,
        "parts": [own for part in parts for own in ((part,) if _is_own_text(part) else _read_part(part))],
    }
    for key in ("name", "finish_reason"):
        if isinstance(item.get(key), str) and item[key]:
            message[key] = item[key]
    return message


def _langchain_role(identifier: list[Any]) -> str:
    kind = str(identifier[-1]) if identifier else ""
    return kind.removesuffix("Chunk").removesuffix("Message").lower()


def _message_parts(item: dict[str, Any], role: str) -> list[Part]:
    if isinstance(item.get("parts"), list):
        parts = read_parts(item["parts"])
    else:
        parts = read_parts(item.get("content"))
    thinking = item.get("reasoning_content") or item.get("reasoning")
    if isinstance(thinking, str):
        parts.insert(0, {"type": "reasoning", "content": thinking})
    calls = item.get("tool_calls")
    if isinstance(calls, list):
        _add_calls(parts, [_tool_call(call) for call in calls if isinstance(call, dict)])
    if isinstance(item.get("function_call"), dict) and not calls:
        parts.append(_tool_call(item))
    if role == "tool" and parts and all(part["type"] == "text" for part in parts):
        call_id = item.get("tool_call_id") or item.get("id")
        response = "\n".join(to_text(part.get("content")) for part in parts)
        return [_without_none({"type": "tool_call_response", "id": call_id, "response": response})]
    return parts


def _add_calls(parts: list[Part], calls: list[Part]) -> None:
    """Add tool calls that are not already among the parts: some senders report them in both places."""
    known = [(part.get("id"), part.get("name")) for part in parts if part.get("type") == "tool_call"]
    parts.extend(call for call in calls if (call.get("id"), call.get("name")) not in known)


def read_parts(content: Any) -> list[Part]:
    """Return the parts of a message's content: a text, a list of parts, or one part."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    if isinstance(content, list):
        return [part for item in content for part in _read_part(item)]
    return _read_part(content)


def _read_part(item: Any) -> list[Part]:
    if not isinstance(item, dict):
        return [{"type": "text", "content": to_text(item)}]
    kind = item.get("type")
    if kind is None:
        for key, reader in _UNTYPED.items():
            if key in item:
                return [reader(item)]
        return [{"type": "json", "content": item}]
    if kind == "message":  # OpenAI responses: a message inside the list of outputs
        return read_parts(item.get("content"))
    typed = _TYPED.get(kind) if isinstance(kind, str) else None
    part = typed(item) if typed is not None else item
    # The responses API sends reasoning without a word where it is encrypted.
    return [] if part["type"] == "reasoning" and not part.get("content") else [part]


def _without_none(part: Part) -> Part:
    return {key: value for key, value in part.items() if value is not None}


def _text(item: Part) -> Part:
    text = item.get("content", item.get("text"))
    return {"type": "text", "content": text if isinstance(text, str) else to_text(text)}


def _reasoning(item: Part) -> Part:
    text = next((item[key] for key in ("content", "thinking", "text", "reasoning", "summary") if item.get(key)), "")
    if isinstance(text, list):
        text = "\n".join(to_text(part.get("text") if isinstance(part, dict) else part) for part in text)
    return {"type": "reasoning", "content": to_text(text)}


_CALL_WRAPPERS = ("function", "function_call", "functionCall", "toolUse", "toolRequest", "tool_call")
_RESPONSE_WRAPPERS = ("functionResponse", "function_response", "toolResult", "toolResponse", "tool_call_result")
_CALL_IDS = ("id", "call_id", "tool_use_id", "toolCallId", "toolUseId", "ref")
_CALL_NAMES = ("name", "toolName", "tool_name")


def _tool_call(item: Part) -> Part:
    function = next((item[key] for key in _CALL_WRAPPERS if item.get(key)), None)
    source = function if isinstance(function, dict) else item
    arguments = next(
        (source[key] for key in ("arguments", "input", "args", "parameters") if source.get(key) is not None), None
    )
    if isinstance(arguments, str):
        decoded = decode_json(arguments)
        arguments = arguments if decoded is None else decoded
    identifier = next((source[key] for key in _CALL_IDS if source.get(key)), None)
    if identifier is None and source is not item:
        identifier = next((item[key] for key in _CALL_IDS if item.get(key)), None)
    name = next((item[key] for item in (source, item) for key in _CALL_NAMES if item.get(key)), None)
    return _without_none({"type": "tool_call", "id": identifier, "name": name, "arguments": arguments})


def _tool_response(item: Part) -> Part:
    wrapped = next((item[key] for key in _RESPONSE_WRAPPERS if item.get(key)), None)
    source = wrapped if isinstance(wrapped, dict) else item
    response = next(
        (source[key] for key in ("response", "result", "output", "content") if source.get(key) is not None), None
    )
    if isinstance(response, dict) and response.keys() == {"type", "value"}:  # Vercel AI SDK 5 and later
        response = response["value"]
    if isinstance(response, list):
        texts = [part.get("text") for part in response if isinstance(part, dict)]
        if texts and all(isinstance(text, str) for text in texts):
            response = "\n".join(str(text) for text in texts)
    origin = source.get("origin")  # Haystack: the call that is answered
    places = (item, source, origin if isinstance(origin, dict) else {})
    identifier = next((place[key] for place in places for key in _CALL_IDS if place.get(key)), None)
    return _without_none({"type": "tool_call_response", "id": identifier, "response": response})


def _image(item: Part) -> Part:
    image = item.get("image_url") or item.get("image")
    if isinstance(image, dict) and "image" in image:  # OpenInference, put together from image.image.url
        image = image["image"]
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, dict):
        url = url.get("url")
    source = item.get("source")
    if not isinstance(url, str) and isinstance(source, dict):
        url = source.get("url") or f"data:{source.get('media_type', '')};base64,{source.get('data', '')}"
    return _media("image", url)


def _media(modality: str, url: Any) -> Part:
    """Return a blob for a ``data:`` URL (RFC 2397), and a uri part for another URL."""
    if _is_data(url):
        head, _, data = url[5:].partition(",")
        mime_type = head.partition(";")[0] or None
        return _without_none({"type": "blob", "modality": modality, "mime_type": mime_type, "content": data})
    return _without_none({"type": "uri", "modality": modality, "uri": url if isinstance(url, str) else None})


def _uri(item: Part) -> Part:
    """Return a part in the shape already, but for a ``data:`` URL, which is a blob."""
    uri = item.get("uri")
    return _media(str(item.get("modality") or "document"), uri) if _is_data(uri) else item


def _media_part(item: Part) -> Part:
    """Genkit: ``{"media": {"url": …, "contentType": …}}``."""
    media = item["media"]
    url = media.get("url") if isinstance(media, dict) else media
    kind = str(media.get("contentType") or "") if isinstance(media, dict) else ""
    modality = kind.partition("/")[0]
    return _media(modality if modality in ("image", "audio", "video") else "document", url)


def _is_data(url: Any) -> bool:
    return isinstance(url, str) and url.startswith("data:")


def _audio(item: Part) -> Part:
    audio = item.get("input_audio") or item.get("audio")
    data = audio.get("data") if isinstance(audio, dict) else item.get("data")
    return _without_none({"type": "blob", "modality": "audio", "content": data})


def _document(item: Part) -> Part:
    source = item.get("file") or item.get("source")
    identifier = item.get("file_id") or (source.get("file_id") if isinstance(source, dict) else None)
    media = item.get("mediaType") or item.get("mimeType")
    modality = str(media).partition("/")[0] if media else "document"
    if modality not in ("image", "audio", "video"):
        modality = "document"
    return _without_none({"type": "file", "modality": modality, "file_id": identifier, "mime_type": media})


def _inline_data(item: Part) -> Part:
    data = item.get("inline_data") or item.get("inlineData") or {}
    mime_type = data.get("mime_type") or data.get("mimeType")
    modality = str(mime_type or "document/").partition("/")[0]
    return _without_none({"type": "blob", "modality": modality, "mime_type": mime_type, "content": data.get("data")})


_TYPED: dict[str, Callable[[Part], Part]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "reasoning": _reasoning,
    "thinking": _reasoning,
    "tool_call": _tool_call,
    "tool_use": _tool_call,
    "tool-call": _tool_call,
    "function": _tool_call,
    "function_call": _tool_call,
    "tool_call_response": _tool_response,
    "tool_result": _tool_response,
    "tool-result": _tool_response,
    "function_call_output": _tool_response,
    "image": _image,
    "image_url": _image,
    "input_image": _image,
    "input_audio": _audio,
    "audio": _audio,
    "document": _document,
    "input_file": _document,
    "uri": _uri,
}
"""How a part is read, by its type. ``blob`` and ``file`` are already in the shape."""

_UNTYPED: dict[str, Callable[[Part], Part]] = {
    "text": _text,
    "functionCall": _tool_call,
    "function_call": _tool_call,
    "toolUse": _tool_call,
    "toolRequest": _tool_call,
    "tool_call": _tool_call,
    "functionResponse": _tool_response,
    "function_response": _tool_response,
    "toolResult": _tool_response,
    "toolResponse": _tool_response,
    "tool_call_result": _tool_response,
    "media": _media_part,
    "inlineData": _inline_data,
    "inline_data": _inline_data,
    "image": _image,
    "content": _text,
}
"""Readers of parts without a type (Gemini, Bedrock), by the key that identifies them; the first key counts."""
