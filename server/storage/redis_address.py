"""The three ways to reach Redis: one server, the master that Sentinels name, or the owner of one slot of a Cluster.

=========================================  ==================================================
``redis://host:6379/0``, ``rediss://…``    one server; ``unix:///path`` too
``redis+sentinel://h1:26379,h2/name/0``    the master called ``name``; its Sentinels are listed
``redis+cluster://h1:6379,h2:6379``        a Cluster; some of its nodes are listed
=========================================  ==================================================

``rediss+sentinel`` and ``rediss+cluster`` use TLS. User and password belong to the servers; those of Sentinels are
``?sentinel_username=…&sentinel_password=…``. In a Cluster all keys have one hash tag, so that the keys of one call
are in one slot: a Cluster is used because it goes on when a node is lost, not because it is large.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

CLUSTER_TAG: Final = "{obs}"
"""In front of every key in a Cluster."""
DEFAULT_PORT: Final = {"sentinel": 26379, "cluster": 6379}

Node = tuple[str, int]


class RedisAddress:
    """One server. ``connection`` opens what :class:`~server.storage.redis_line.RedisLine` speaks over."""

    key_tag = ""

    def __init__(self, pool: Any, guides: Sequence[Redis] = ()) -> None:
        """``guides``: the Sentinels from which ``pool`` learns the address."""
        self._pool = pool
        self._guides = guides

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        for guide in self._guides:
            await guide.aclose()

    def client(self) -> Redis:
        """Return a client for messages between processes."""
        return Redis(connection_pool=self._pool)

    async def connection(self) -> Any:
        """Return a new connection of redis-py, logged in. Raises RedisError, OSError or TimeoutError."""
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except BaseException as error:
            connection._close()
            if isinstance(error, TypeError | ValueError):  # hiredis on bytes that are not RESP
                raise RedisConnectionError(f"no Redis answers: {error}") from error
            raise
        return connection


@dataclass
class _ClusterAddress(RedisAddress):
    """The node of a Cluster that owns the slot of :data:`CLUSTER_TAG`."""

    nodes: list[Node]
    options: Mapping[str, Any]
    key_tag: str = field(default=CLUSTER_TAG, init=False)
    _asked: set[asyncio.Task[tuple[Node, list[Node]]]] = field(default_factory=set, init=False)

    async def close(self) -> None:
        """Wait for the nodes that have not answered yet."""
        await asyncio.gather(*self._asked, return_exceptions=True)

    def client(self) -> Redis:
        """Return a client of some node, another one each time: messages reach all nodes."""
        self.nodes.append(self.nodes.pop(0))
        return Redis(connection_pool=_pool(self.nodes[0], self.options))

    async def connection(self) -> Any:
        """Ask all nodes that are known, and connect to the owner that the first answer names."""
        asked = [asyncio.create_task(self._owner(node)) for node in self.nodes]
        self._asked.update(asked)  # a slow one ends by its time-out, long after this
        for question in asked:
            question.add_done_callback(self._answered)
        for answer in asyncio.as_completed(asked):
            try:
                owner, self.nodes = await answer
            except (RedisError, OSError, TimeoutError):
                continue
            return await RedisAddress(_pool(owner, self.options)).connection()
        raise RedisConnectionError("the nodes of the Cluster name no owner of our keys")

    def _answered(self, question: asyncio.Task[tuple[Node, list[Node]]]) -> None:
        self._asked.discard(question)
        if not question.cancelled():
            question.exception()  # of one that nobody waits for any more

    async def _owner(self, node: Node) -> tuple[Node, list[Node]]:
        """Return the owner of our slot and all nodes, as ``node`` knows them."""
        pool = _pool(node, self.options)
        try:
            slots = await Redis(connection_pool=pool).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
        finally:
            await pool.disconnect()
        owner, nodes = None, {node: None}
        for first, last, *places in slots:
            found = [(place[0].decode() if place[0] else node[0], int(place[1])) for place in places]
            nodes.update(dict.fromkeys(found))
            if first <= key_slot(CLUSTER_TAG.encode()) <= last:
                owner = found[0]
        if owner is None:
            raise RedisConnectionError("no node owns our slot")
        return owner, list(nodes)


def redis_address(url: str, *, timeout: float, pool_size: int = 32) -> RedisAddress:
    """Return the address that ``url`` describes; ``timeout`` in seconds for connecting and each command.

    The address has the form that the setting REDIS_URL accepts (:func:`server.text.setting_values.redis_address`).
    """
    parts = urlsplit(url)
    transport, _, kind = parts.scheme.partition("+")
    options: dict[str, Any] = {
        "max_connections": pool_size,
        "timeout": timeout,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    if not kind:
        return RedisAddress(BlockingConnectionPool.from_url(url, **options))
    credentials = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
    nodes = _nodes(parts, DEFAULT_PORT[kind])
    if kind == "cluster":
        tls = {"connection_class": SSLConnection} if transport == "rediss" else {}
        return _ClusterAddress(nodes, {**options, **credentials, **tls})
    service, _, database = parts.path.strip("/").partition("/")
    query = parse_qs(parts.query)
    per_sentinel = timeout / (len(nodes) + 1)  # they are asked one after the other
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        nodes,
        sentinel_kwargs={
            "socket_timeout": per_sentinel,
            "socket_connect_timeout": per_sentinel,
            "retry": Retry(NoBackoff(), 0),
            "ssl": transport == "rediss",
            **{name: query[f"sentinel_{name}"][0] for name in credentials if f"sentinel_{name}" in query},
        },
    )
    del options["timeout"]  # of BlockingConnectionPool, which Sentinel has none of
    client = sentinel.master_for(
        service, db=int(database or 0), ssl=transport == "rediss", **{**options, **credentials}
    )
    return RedisAddress(client.connection_pool, sentinel.sentinels)


def _nodes(parts: SplitResult, default_port: int) -> list[Node]:
    nodes = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        name, bracket, rest = place.rpartition("]") if place.startswith("[") else ("", "", place)
        host, _, port = rest.partition(":")
        host = name.removeprefix("[") if bracket else host
        nodes.append((host, int(port or default_port)))
    return nodes


def _pool(node: Node, options: Mapping[str, Any]) -> BlockingConnectionPool:
    return BlockingConnectionPool(host=node[0], port=node[1], **options)
