"""Names of callers: each kind of credential has a namespace of its own, so that none can be taken for another.

A subject is what is written into audit rows, what owns a key, and what is counted by the limits. A client id is
chosen by whoever registers the client; were it a subject as it stands, a client called ``alice`` would be Alice
(RFC 9068, section 5 warns of it). Only the command line and whoever holds the signing key make subjects without
a namespace, and those hold no colon.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

CLIENT: Final = "client:"
"""An OAuth client: tokens of ``/oauth/token``, and the keys made with them."""
KEY: Final = "key:"
"""An API key that nobody but the command line stands behind."""
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
