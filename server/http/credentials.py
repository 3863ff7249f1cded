"""Extraction of a request's credential, before anything examines it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from server.access.api_key import is_api_key
from server.errors import AmbiguousCredentials, InvalidToken

# RFC 6750, 2.1: one blank, then token68. The scheme's name has no case (RFC 9110, 11.1).
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/=-]{1,8192})")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,256}")


def presented_credential(headers: Mapping[str, str]) -> str | None:
    """Return the token or key in ``Authorization: Bearer`` or ``X-API-Key``; None if there is neither.

    A credential is never in the URL, a body or a cookie: those end up in logs and are sent without asking. Raises
    :class:`AmbiguousCredentials` if both headers are present, :class:`InvalidToken` for a Bearer header that cannot be
    valid. A header of another scheme (Basic, …) is not a credential of ours.
    """
    authorization, api_key = headers.get("authorization"), headers.get("x-api-key")
    if api_key is not None:
        if authorization is not None:
            raise AmbiguousCredentials()
        if not _KEY.fullmatch(api_key) or not is_api_key(api_key):
            raise InvalidToken()
        return api_key
    if authorization is None or authorization[:6].lower() != "bearer":
        return None
    match = _BEARER.fullmatch(authorization)
    if match is None:
        raise InvalidToken()
    return match[1]
