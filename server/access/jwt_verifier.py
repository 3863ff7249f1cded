"""Strict verification of signed JWTs, for every kind of incoming token.

joserfc does the cryptography; this module adds the rules of RFC 8725 that the library leaves to its caller: an explicit
algorithm list, the ``typ`` header, mandatory claims, a cap on the lifetime, refusal of duplicate JSON members, and the
promise that hostile input raises :class:`TokenRefused` and nothing else (the library also raises TypeError, ValueError
and RecursionError on it).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import Key

from server.text.strict_json import StrictDecoder

MAX_TOKEN_BYTES: Final = 8192
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]{1,8192}\.[A-Za-z0-9_-]{1,1400}")
_KEY_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")

# No `jku`, `x5u`, `jwk` or `x5c`: a token never decides where to find the key that verifies it. The thumbprints are
# only names, which some providers add beside `kid`.
_HEADER_NAMES: Final = frozenset({"alg", "typ", "kid", "x5t", "x5t#S256"})

KEY_TYPES: Final[dict[str, str]] = {
    "HS256": "oct",
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "Ed25519": "OKP",
}
"""The configurable algorithms, and the type of key that each one needs."""


class TokenRefused(Exception):
    """The token is refused. ``reason`` is one word for logs, never shown to the caller.

    ``projects`` and ``credential_id`` are those of a credential of ours that was recognised: for the audit log.
    """

    def __init__(self, reason: str, *, projects: Iterable[str] = (), credential_id: str = "") -> None:
        self.reason = reason
        self.projects = tuple(projects)
        self.credential_id = credential_id
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Rules for the tokens of one issuer."""

    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    types: frozenset[str]
    """Accepted ``typ`` headers in lower case; the empty string admits a token without one."""
    required: tuple[str, ...] = ()
    """Required claims beside iss, aud, sub, exp and iat."""
    max_lifetime: int = 86400
    """Longest time from ``iat`` to ``exp``, in seconds."""
    leeway: int = 30
    """Tolerated difference of clocks in seconds: the same for exp, nbf and iat."""
    registry: jwt.JWTClaimsRegistry = field(init=False)

    def __post_init__(self) -> None:
        if not self.algorithms or any(name not in KEY_TYPES for name in self.algorithms):
            # An empty list would make the library fall back to a list of its own.
            raise ValueError("no usable signature algorithm is configured")
        if not self.issuer or not self.audiences:
            raise ValueError("an issuer and an audience are needed")
        registry = jwt.JWTClaimsRegistry(
            leeway=self.leeway,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "values": list(self.audiences)},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            # allow_blank: this module does not judge whether an empty list of projects is useful.
            **{name: {"essential": True, "allow_blank": True} for name in self.required},  # type: ignore[arg-type]
        )
        object.__setattr__(self, "registry", registry)


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token of which nothing is trusted yet."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def key_id(self) -> str | None:
        """The ``kid`` header, if any."""
        return self.header.get("kid")


def parse_token(text: str) -> UnverifiedToken:
    """Parse a compact JWS, trusting nothing. Raises :class:`TokenRefused`."""
    if len(text) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(text):
        raise TokenRefused("malformed")
    first, second, _ = text.split(".")
    header, claims = _json_object(first), _json_object(second)
    if not _HEADER_NAMES.issuperset(header) or type(header.get("alg")) is not str:
        raise TokenRefused("header")
    kid = header.get("kid")
    if kid is not None and (type(kid) is not str or not _KEY_ID.fullmatch(kid)):
        raise TokenRefused("header")
    return UnverifiedToken(text, header, claims)


def _json_object(part: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw.decode("utf-8"), cls=StrictDecoder)
    except (ValueError, RecursionError) as error:
        raise TokenRefused("malformed") from error
    if type(value) is not dict:
        raise TokenRefused("malformed")
    return value


def verify_token(token: UnverifiedToken, keys: Sequence[Key], rules: TokenRules) -> dict[str, Any]:
    """Return the claims of ``token``, which is proved to be signed by one of ``keys`` and to follow ``rules``.

    A token with a ``kid`` is tried with the key of that name only. Raises :class:`TokenRefused`.
    """
    algorithm = token.header["alg"]
    if algorithm not in rules.algorithms:
        raise TokenRefused("algorithm")
    kind = token.header.get("typ", "")
    if type(kind) is not str or kind.lower() not in rules.types:
        raise TokenRefused("type")
    fitting = [
        key
        for key in keys
        if key.key_type == KEY_TYPES[algorithm]
        and (token.key_id is None or key.kid == token.key_id)
        and key.get("alg") in (None, algorithm)
        and key.get("use") in (None, "sig")
    ]
    if not fitting:
        raise TokenRefused("unknown_key")
    claims = _signed_claims(token.text, fitting, algorithm)
    try:
        rules.registry.validate(claims)
        if claims["exp"] - claims["iat"] > rules.max_lifetime or claims["iat"] < 0:
            raise TokenRefused("lifetime")
    except ExpiredTokenError as error:
        raise TokenRefused("expired") from error
    except (JoseError, ValueError, TypeError, OverflowError) as error:
        raise TokenRefused("claims") from error
    return claims


def _signed_claims(text: str, keys: Sequence[Key], algorithm: str) -> dict[str, Any]:
    for key in keys:
        try:
            return jwt.decode(text, key, algorithms=[algorithm], decoder_cls=StrictDecoder).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            continue  # the next key of the same name or type may fit
    raise TokenRefused("signature")


def seconds_left(claims: dict[str, Any], rules: TokenRules) -> float:
    """Return how long the verified ``claims`` stay valid, leeway included."""
    return float(claims["exp"]) + rules.leeway - time.time()
