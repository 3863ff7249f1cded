"""Web pages that may call the API from a browser: none, unless their origin is named.

The rules are those of CORS (the Fetch standard), applied by sanic-ext. Credentials are bearer tokens that a page sends
itself, never cookies, so ``Access-Control-Allow-Credentials`` is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sanic import Sanic
from sanic_ext import Extend
from sanic_ext.extensions.http.extension import HTTPExtension

MAX_AGE_SECONDS: Final = 600
REQUEST_HEADERS: Final = (
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "x-api-key",
    "x-request-id",
    "traceparent",
)
RESPONSE_HEADERS: Final = (
    "etag",
    "link",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
)


def install(app: Sanic[Any, Any], origins: Sequence[str]) -> None:
    """Let pages of ``origins`` (``https://app.example``; ``*`` for all) read answers.

    sanic-ext would also add documentation pages that load scripts from elsewhere, methods of its own, and a check of
    each request for injections; these are switched off.
    """
    Extend(
        app,
        built_in_extensions=False,
        extensions=[HTTPExtension],
        config={
            "cors": bool(origins),
            "cors_origins": ",".join(origins),
            "cors_always_send": False,
            "cors_allow_headers": ",".join(REQUEST_HEADERS),
            "cors_expose_headers": ",".join(RESPONSE_HEADERS),
            "cors_max_age": MAX_AGE_SECONDS,
            "cors_supports_credentials": False,
            "oas": False,
            "http_all_methods": False,
            "http_auto_head": False,
            # sanic-ext answers preflights only with this on; our router answers OPTIONS itself.
            # Without origins it would only compile all routes a second time.
            "http_auto_options": bool(origins),
            "http_auto_trace": False,
        },
    )
