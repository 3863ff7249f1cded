"""Idempotency keys: a request that is repeated under the same key is carried out once, and answered the same.

The form is that of the IETF's draft (draft-ietf-httpapi-idempotency-key-header). A key belongs to the credential that
sent it. Its row is made before the work begins, so of requests at the same time one wins; the answer is kept in it for
a day. Whoever reads the table learns neither: the key is there as a hash alone, and an answer, which may hold a new
credential, is sealed with a secret made from the key and the server's own.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.access.principal import Principal
from server.errors import Conflict, InvalidParameter
from server.storage.database import Database
from server.storage.statements import statement

KEPT: Final = timedelta(days=1)
AT_WORK: Final = timedelta(minutes=2)
"""After this time a request without an answer is not at work any more."""
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it was given the first time."""

    status: int
    headers: dict[str, str]
    content_type: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """The first request with a key."""

    identity: bytes
    seal: bytes


def checked_key(key: str) -> str:
    """Return ``key``. Raises InvalidParameter for one that is not visible ASCII."""
    if not _KEY.fullmatch(key):
        raise InvalidParameter("The Idempotency-Key header must be 1 to 255 visible ASCII characters.")
    return key


class IdempotencyKeys:
    """The keys of all requests, in the database."""

    def __init__(self, writes: Database, secret: bytes) -> None:
        """``secret`` of the installation seals answers."""
        self._writes = writes
        self._secret = secret

    async def begin(
        self, principal: Principal, projects: Sequence[str], key: str, fingerprint: bytes
    ) -> Claim | KeptAnswer:
        """Return a claim for the first request with ``key``, and the answer of that for any other.

        ``projects`` that the credential opens and that exist. ``fingerprint``: 32 bytes that are the same for the same
        request. Raises Conflict while the first is at work, where its outcome is unknown, and for another request.
        """
        asked = (*_owner(principal), *sorted(projects), key)
        identity, seal = _hash(b"identity", *asked), _hash(b"seal", self._secret, *asked)
        async with self._writes.write(()) as connection:
            if await connection.fetchval(statement("claim_idempotency_key"), identity, fingerprint, KEPT):
                return Claim(identity, seal)
            row = await connection.fetchrow(statement("read_idempotency_key"), identity)
        if row is None:  # it has just been released
            raise Conflict("A request with this Idempotency-Key was at work; try again.", headers={"Retry-After": "1"})
        if row["fingerprint"] != fingerprint:
            raise Conflict("The Idempotency-Key was used for another request.")
        if row["answer"] is not None:
            return _opened(row["answer"], seal)
        if row["age"] < AT_WORK:
            raise Conflict(
                "The first request with this Idempotency-Key is still at work.", headers={"Retry-After": "1"}
            )
        raise Conflict(
            "The first request with this Idempotency-Key ended without an answer, and may have been carried out: look, "
            "and if it was not, send it with another key."
        )

    async def keep(self, claim: Claim, answer: KeptAnswer) -> None:
        """Keep the answer to the request of ``claim``."""
        async with self._writes.write(()) as connection:
            await connection.execute(statement("keep_idempotent_answer"), claim.identity, _sealed(answer, claim.seal))

    async def release(self, claim: Claim) -> None:
        """Forget a request that was not carried out: its key may be used again."""
        async with self._writes.write(()) as connection:
            await connection.execute(statement("release_idempotency_key"), claim.identity)


def _owner(principal: Principal) -> tuple[str, ...]:
    """Return what a key belongs to. Of tokens it is the grant, for they are renewed."""
    credential = principal.credential_id if principal.kind == "api_key" else ""
    viewer = principal.viewer.subject if principal.viewer is not None else ""
    return (principal.kind, principal.subject, principal.role, credential, viewer)


def _hash(*parts: str | bytes) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big") + data)
    return found.digest()


def _sealed(answer: KeptAnswer, seal: bytes) -> bytes:
    head = orjson.dumps([answer.status, answer.headers, answer.content_type])
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(seal).encrypt(nonce, zlib.compress(head + b"\n" + answer.body), None)


def _opened(sealed: bytes, seal: bytes) -> KeptAnswer:
    try:
        text = zlib.decompress(AESGCM(seal).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None))
    except InvalidTag as error:
        raise Conflict(
            "The request with this Idempotency-Key was carried out, and its answer was sealed with a former JWT_SECRET."
        ) from error
    head, _, body = text.partition(b"\n")
    status, headers, content_type = orjson.loads(head)
    return KeptAnswer(status, headers, content_type, body)
