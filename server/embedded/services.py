"""The embedded services, started and stopped together."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from server.embedded.account import choose_account
from server.embedded.binaries import POSTGRES, VALKEY, check_runs, find_program
from server.embedded.data_dir import DataDir, EmbeddedUrls
from server.embedded.errors import EmbeddedError
from server.embedded.postgres import SUPERUSER, EmbeddedPostgres
from server.embedded.valkey import EmbeddedValkey

logger = logging.getLogger("observatory.embedded")

RETRY_SECONDS = 5.0


class EmbeddedServices:
    """PostgreSQL and Valkey in a data folder, for as long as this object (or process) lives.

    Synchronous: call it before an event loop runs, or from a thread. Usable as a context manager.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        postgres_settings: Mapping[str, str] | None = None,
        postgres_program: Path | None = None,
        announce: Callable[[str], None] = logger.info,
    ) -> None:
        """:param postgres_settings: server settings that override ours; tests turn ``fsync`` off.
        :param postgres_program: the ``postgres`` to run; None: that of the wheel. Tests try other versions.
        :param announce: receives a sentence for the person at the terminal when something takes time or is changed.
        """
        self._data_dir = DataDir(Path(data_dir))
        self._postgres_settings = postgres_settings or {}
        self._postgres_program = postgres_program
        self._announce = announce
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._urls: EmbeddedUrls | None = None
        self._retry_at: dict[str, float] = {}
        """When a service that does not start is tried again."""

    @property
    def path(self) -> Path:
        """The data folder."""
        return self._data_dir.path

    def start(self) -> EmbeddedUrls:
        """Start both and return their addresses; on failure nothing is left running.

        :raises EmbeddedError: with the reason and the way out.
        """
        postgres_program, valkey_program = self._postgres_program or find_program(POSTGRES), find_program(VALKEY)
        self._data_dir.lock()
        try:
            account = choose_account(self._data_dir.cluster, os.environ)
            self._data_dir.let_through(account)
            for folder in (postgres_program.parent, valkey_program.parent, self._data_dir.path):
                account.open_way_to(folder, self._announce)
            check_runs(postgres_program, account, POSTGRES)
            check_runs(valkey_program, account, VALKEY)
            self._postgres = EmbeddedPostgres(
                postgres_program,
                self._data_dir,
                account,
                settings=self._postgres_settings,
                announce=self._announce,
            )
            self._valkey = EmbeddedValkey(valkey_program, self._data_dir, account)
            self._postgres.start()
            self._valkey.start()
            urls = EmbeddedUrls(
                database_url=self._postgres.url("observatory_app"),
                owner_url=self._postgres.url(SUPERUSER),
                worker_url=self._postgres.url("observatory_background"),
                redis_url=self._valkey.url,
                jwt_secret=self.jwt_secret(),
            )
            self._data_dir.publish(urls)
        except BaseException:
            self.stop()
            raise
        self._urls = urls
        return urls

    def publish_server(self, url: str) -> None:
        """Let other commands of the same user find the server of this instance at ``url``."""
        if self._urls is not None:
            self._data_dir.publish(replace(self._urls, server_url=url))

    def running_instance(self) -> EmbeddedUrls | None:
        """Return the addresses of an instance that another process runs in this folder; None if there is none.

        :raises EmbeddedError: the folder belongs to somebody else, or that instance is still starting.
        """
        return self._data_dir.running_instance()

    def jwt_secret(self) -> str:
        """Return the secret that signs tokens; created when first needed, whether or not the services run."""
        return self._data_dir.jwt_secret()

    def stop(self) -> None:
        """Stop both and release the folder; harmless if nothing runs."""
        for service in (self._valkey, self._postgres):
            if service is not None:
                service.stop()
        self._valkey = self._postgres = self._urls = None
        self._data_dir.unlock()

    def revive(self) -> None:
        """Start again, at the same address, a service that has ended by itself (out of memory or space, killed).

        One that does not start is tried again every few seconds: the server answers 503 meanwhile, and works again by
        itself once there is space.
        """
        for name, service in (("PostgreSQL", self._postgres), ("Valkey", self._valkey)):
            if service is None or not (name in self._retry_at or service.exited()):
                continue
            is_first = name not in self._retry_at
            if time.monotonic() < self._retry_at.get(name, 0.0):
                continue
            if is_first:
                self._announce(f"{name} has ended unexpectedly and is started again")
            try:
                service.stop()
                service.start()
            except (EmbeddedError, OSError) as failure:
                self._retry_at[name] = time.monotonic() + RETRY_SECONDS
                if is_first:
                    self._announce(f"{name} does not start and is tried again every {RETRY_SECONDS:.0f} s: {failure}")
            else:
                if not is_first:
                    self._announce(f"{name} runs again")
                self._retry_at.pop(name, None)

    def __enter__(self) -> EmbeddedUrls:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
