"""Overrides of Sanic: all are in server/http, and each method's source in the pinned release is the known one.

When an upgrade changes a method, the test names it: read the new source, carry over what matters, then renew the
digest here (the failure prints it).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import sanic

import server.http

KNOWN = {
    "HTTPResponse.__init__": "8afb54166536ec2c",
    "Http.__aiter__": "791f6ba178ac8bcf",
    "Http.__init__": "c3adb6c09e02058a",
    "Http.create_empty_request": "388728b7faf20a89",
    "Http.error_response": "5f49e1d76d4fc44d",
    "Http.http1_request_header": "d3cd937dc1821c5e",
    "Http.http1_response_header": "dff02555548d5f37",
    "HttpProtocol.check_timeouts": "23ee247afb5da72b",
    "HttpProtocol.connection_made": "980c201d9ed09795",
    "HttpProtocol.send": "54aca2c9527dc181",
    "Request.__init__": "4a06f423f959dea7",
    "Request.respond": "732ed7264f5678b9",
    "RouteMixin._determine_error_format": "570fbd74ae4683e7",
    "Router._get": "9e56f6cd663ac711",
    "Sanic.__init__": "67097570ad7a3eb2",
    "Sanic.handle_request": "6bfd95fd4e503d6a",
    "SanicProtocol.pause_writing": "dc1e8d629e8b14ad",
    "SanicProtocol.receive_more": "d1d4ea91722442ab",
    "SanicProtocol.resume_writing": "5e5750b20576cf22",
    "StartupMixin.create_server": "0760769006ed35d5",
    "WebSocketProtocol.__init__": "94f11337da0e0fda",
    "WebSocketProtocol.connection_lost": "00c33c5eeb586c3f",
    "WebSocketProtocol.data_received": "251cdafd9c6d4d5b",
    "WebSocketProtocol.eof_received": "8c6a23fd73272af2",
}


def our_classes() -> Iterator[type]:
    for info in pkgutil.walk_packages(server.__path__, "server."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                yield value


def is_of_sanic(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("sanic", "sanic_routing")


def overrides() -> dict[str, str]:
    """Return a digest of the installed source of each ``Class.method`` of Sanic that a class of ours replaces."""
    found = {}
    for cls in our_classes():
        for name, member in vars(cls).items():
            if not inspect.isfunction(member):
                continue
            base = next((base for base in cls.__mro__[1:] if name in vars(base)), None)
            if base is not None and is_of_sanic(base):
                source = source_of(base, name)
                found[f"{base.__name__}.{name}"] = hashlib.sha256(source.encode()).hexdigest()[:16]
    return found


def source_of(cls: type, name: str) -> str:
    """Return the method's lines in the file of its class: once an app has started, Sanic has compiled some methods
    again.
    """
    text = Path(str(inspect.getsourcefile(cls))).read_text(encoding="utf-8")
    (body,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    method = [node for node in body.body if isinstance(node, kinds) and node.name == name][-1]
    first = min([method.lineno, *(item.lineno for item in method.decorator_list)])
    return "".join(text.splitlines(keepends=True)[first - 1 : method.end_lineno])


def test_each_overridden_method_of_sanic_is_the_known_one() -> None:
    present = overrides()
    changed = {
        name: present.get(name, "no longer overridden")
        for name in {*present, *KNOWN}
        if present.get(name) != KNOWN.get(name)
    }
    assert not changed, f"Sanic {sanic.__version__}: read what changed in these methods, then renew KNOWN"


def test_sanic_is_overridden_in_one_folder_only() -> None:
    elsewhere = [
        cls.__qualname__
        for cls in our_classes()
        if any(is_of_sanic(base) for base in cls.__mro__) and not cls.__module__.startswith("server.http.")
    ]
    assert not elsewhere
