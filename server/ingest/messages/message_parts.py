"""Parts of a message, read from the shapes of the vendors into one: see :mod:`message_shapes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.ingest.messages.coercion import decode_json, to_text

Part = dict[str, Any]

VENDOR_CALLS = (
    "web_search_call", "file_search_call", "code_interpreter_call", "computer_call", "image_generation_call",
    "mcp_call", "local_shell_call",
)  # fmt: skip
"""Items of OpenAI's responses API: tools that run at the vendor."""


def is_own_text(part: Any) -> bool:
    """Return whether ``part`` is a text in the shape already, as most parts are."""
    return type(part) is dict and part.get("type") == "text" and type(part.get("content")) is str


def with_calls(parts: list[Part], calls: list[Part]) -> list[Part]:
    """Return ``parts`` and those tool calls that are not among them yet: some senders report them in both places, and
    in one of them perhaps without the id.
    """
    known = [part for part in parts if part.get("type") == "tool_call"]
    return [*parts, *(call for call in calls if not any(_is_same_call(call, other) for other in known))]


def _is_same_call(call: Part, other: Part) -> bool:
    if call.get("name") != other.get("name"):
        return False
    if call.get("id") and other.get("id"):
        return bool(call["id"] == other["id"])
    return call.get("arguments") == other.get("arguments")


def read_parts(content: Any) -> list[Part]:
    """Return the parts of a message's content: a text, a list of parts, or one part."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    if isinstance(content, list):
        return [part for item in content for part in read_part(item)]
    return read_part(content)


def read_part(item: Any) -> list[Part]:
    """Return the parts that one part of a vendor's shape becomes."""
    if not isinstance(item, dict):
        return [{"type": "text", "content": to_text(item)}]
    kind = item.get("type", item.get("block_type"))
    if kind is None:
        for key, reader in _UNTYPED.items():
            if key in item:
                return _said(reader(item))
        return [{"type": "json", "content": item}]
    if kind == "message":  # OpenAI responses: a message inside the list of outputs
        return read_parts(item.get("content"))
    typed = _TYPED.get(kind) if isinstance(kind, str) else None
    part = typed(item) if typed is not None else item if "type" in item else {"type": kind, **item}
    return _said(part)


def _said(part: Part) -> list[Part]:
    """Return the part, but no reasoning without a word: the responses API sends such where it is encrypted."""
    return [] if part["type"] == "reasoning" and not part.get("content") else [part]


def without_none(part: Part) -> Part:
    """Return ``part`` without the members that nobody filled."""
    return {key: value for key, value in part.items() if value is not None}


def _text(item: Part) -> Part:
    text = item.get("content", item.get("text"))
    return {"type": "text", "content": text if isinstance(text, str) else to_text(text)}


def _reasoning(item: Part) -> Part:
    text = next((item[key] for key in ("content", "thinking", "text", "reasoning", "summary") if item.get(key)), "")
    if isinstance(text, dict):  # Haystack
        text = text.get("reasoning_text")
    if isinstance(text, list):
        text = "\n".join(to_text(part.get("text") if isinstance(part, dict) else part) for part in text)
    return {"type": "reasoning", "content": to_text(text)}


_CALL_WRAPPERS = ("function", "function_call", "functionCall", "toolUse", "toolRequest", "tool_call")
_RESPONSE_WRAPPERS = ("functionResponse", "function_response", "toolResult", "toolResponse", "tool_call_result")
_CALL_IDS = ("id", "call_id", "tool_call_id", "tool_use_id", "toolCallId", "toolUseId", "tool_id", "ref")
_CALL_ARGUMENTS = (
    "arguments", "input", "args", "parameters", "tool_kwargs", "tool_arguments", "server_tool_call", "action",
    "queries",
)  # fmt: skip
_CALL_NAMES = ("name", "toolName", "tool_name")


def tool_call(item: Part) -> Part:
    """Return a tool call of any vendor's form."""
    function = next((item[key] for key in _CALL_WRAPPERS if item.get(key)), None)
    source = function if isinstance(function, dict) else item
    arguments = next((source[key] for key in _CALL_ARGUMENTS if source.get(key) is not None), None)
    if isinstance(arguments, str):
        decoded = decode_json(arguments)
        arguments = arguments if decoded is None else decoded
    identifier = next((source[key] for key in _CALL_IDS if source.get(key)), None)
    if identifier is None and source is not item:
        identifier = next((item[key] for key in _CALL_IDS if item.get(key)), None)
    name = next((item[key] for item in (source, item) for key in _CALL_NAMES if item.get(key)), None)
    if name is None and item.get("type") in VENDOR_CALLS:
        name = item["type"].removesuffix("_call")
    return without_none({"type": "tool_call", "id": identifier, "name": name, "arguments": arguments})


def _tool_response(item: Part) -> Part:
    wrapped = next((item[key] for key in _RESPONSE_WRAPPERS if item.get(key)), None)
    source = wrapped if isinstance(wrapped, dict) else item
    response = next(
        (
            source[key]
            for key in ("response", "result", "output", "content", "server_tool_call_response")
            if source.get(key) is not None
        ),
        None,
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
    return without_none({"type": "tool_call_response", "id": identifier, "response": response})


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
        return without_none({"type": "blob", "modality": modality, "mime_type": mime_type, "content": data})
    return without_none({"type": "uri", "modality": modality, "uri": url if isinstance(url, str) else None})


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
    return without_none({"type": "blob", "modality": "audio", "content": data})


def _document(item: Part) -> Part:
    source = item.get("file") or item.get("source")
    identifier = item.get("file_id") or (source.get("file_id") if isinstance(source, dict) else None)
    media = item.get("mediaType") or item.get("mimeType")
    modality = str(media).partition("/")[0] if media else "document"
    if modality not in ("image", "audio", "video"):
        modality = "document"
    return without_none({"type": "file", "modality": modality, "file_id": identifier, "mime_type": media})


def _inline_data(item: Part) -> Part:
    data = item.get("inline_data") or item.get("inlineData") or {}
    mime_type = data.get("mime_type") or data.get("mimeType")
    modality = str(mime_type or "document/").partition("/")[0]
    return without_none({"type": "blob", "modality": modality, "mime_type": mime_type, "content": data.get("data")})


_TYPED: dict[str, Callable[[Part], Part]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "reasoning": _reasoning,
    "thinking": _reasoning,
    "tool_use": tool_call,
    "tool-call": tool_call,
    "tool_call_response": _tool_response,
    "tool_result": _tool_response,
    "tool-result": _tool_response,
    "function_call_output": _tool_response,
    "server_tool_call": tool_call,
    "server_tool_use": tool_call,
    "mcp_tool_use": tool_call,
    "server_tool_call_response": _tool_response,
    "web_search_tool_result": _tool_response,
    "mcp_tool_result": _tool_response,
    **dict.fromkeys((*VENDOR_CALLS, *_CALL_WRAPPERS), tool_call),
    **dict.fromkeys(_RESPONSE_WRAPPERS, _tool_response),
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
    "functionCall": tool_call,
    "function_call": tool_call,
    "toolUse": tool_call,
    "toolRequest": tool_call,
    "tool_call": tool_call,
    "tool_arguments": tool_call,
    "functionResponse": _tool_response,
    "function_response": _tool_response,
    "toolResult": _tool_response,
    "toolResponse": _tool_response,
    "tool_call_result": _tool_response,
    "media": _media_part,
    "inlineData": _inline_data,
    "inline_data": _inline_data,
    "image": _image,
    "reasoning": _reasoning,
    "content": _text,
}
"""Readers of parts without a type (Gemini, Bedrock), by the key that identifies them; the first key counts."""
