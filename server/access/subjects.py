"""Names of callers: each kind of credential has a namespace of its own, so that none can be taken for another.

A subject is written into audit rows, owns keys, and is counted by the limits. The person who registers a client
chooses its id; if that were a subject unchanged, a client called ``alice`` would be Alice (RFC 9068, section 5 warns of
it). Only the command line and the holder of the signing key make subjects without a namespace, and those have no colon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

CLIENT: Final = "client:"
"""An OAuth client: tokens of ``/oauth/token``, and the keys made with them."""
KEY: Final = "key:"
"""An API key made by the command line, without an owner."""
PROVIDER: Final = "idp:"
"""A user of the identity provider."""


def client_subject(client_id: str) -> str:
    """Return the subject of the client ``client_id``."""
    return CLIENT + client_id


def key_subject(key_id: str) -> str:
    """Return the subject of a key without an owner."""
    return KEY + key_id


def account_of(subject: str, projects: Collection[str]) -> str:
    """Return the account whose budget of requests a token of ``subject`` draws on.

    A subject without a namespace, such as ``cli``, is given to several tenants by the operator: each set of projects
    has a budget of its own, so that one tenant cannot use up another's.
    """
    if ":" in subject:
        return subject
    granted = hashlib.sha256(",".join(sorted(projects)).encode()).hexdigest()
    return f"{subject} {granted}"
