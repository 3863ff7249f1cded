"""The stores of data: the services that the settings name, or private ones if they name none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from server.embedded import EmbeddedServices, EmbeddedUrls
from server.settings import Settings, SettingsError, load_settings


class Stores:
    """A context manager that returns :class:`Settings` with every address filled in.

    With ``DATABASE_URL`` set nothing is started, and roles of a database without it are refused, since the private
    services have roles of their own. Without it, the private services of ``OBSERVATORY_DATA_DIR`` are
    started for as long as the context lasts; with ``join=True`` those of a running instance are used instead.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        announce: Callable[[str], None],
        join: bool = False,
    ) -> None:
        self._given = dict(environ)
        self._announce = announce
        self._join = join
        self._embedded: EmbeddedServices | None = None
        self.environ: dict[str, str] = self._given
        """The environment with which another process gets the same settings."""

    def __enter__(self) -> Settings:
        """Start or join the services.

        :raises SettingsError: unusable settings.
        :raises EmbeddedError: the private services cannot run.
        """
        settings = load_settings(self._given)
        if settings.database_url:
            if not settings.jwt_secret:
                raise SettingsError(
                    "JWT_SECRET is not set: with a database of your own, give the secret that signs access tokens "
                    "(at least 32 bytes, for example from: openssl rand -base64 48)"
                )
            return settings
        if settings.database_owner_url or settings.database_worker_url:
            named = "DATABASE_OWNER_URL" if settings.database_owner_url else "DATABASE_WORKER_URL"
            raise SettingsError(
                f"{named} is set and DATABASE_URL is not: set both for a database of your own, or neither for the "
                "private one"
            )
        services = EmbeddedServices(settings.data_dir, announce=self._announce)
        urls = services.running_instance() if self._join else None
        if urls is None:
            urls = services.start()
            self._embedded = services
        self.environ = {**self._given, **_addresses(urls, settings)}
        return load_settings(self.environ)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    @property
    def are_private(self) -> bool:
        """Whether this process runs the services itself."""
        return self._embedded is not None

    def publish_server(self, url: str) -> None:
        """Let commands beside private services find the server that uses them at ``url``."""
        if self._embedded is not None:
            self._embedded.publish_server(url)

    def watch(self) -> None:
        """Start a private service again that has ended."""
        if self._embedded is not None:
            self._embedded.revive()


def _addresses(urls: EmbeddedUrls, settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": urls.database_url,
        "DATABASE_OWNER_URL": urls.owner_url,
        "DATABASE_WORKER_URL": urls.worker_url,
        "REDIS_URL": settings.redis_url or urls.redis_url,
        "JWT_SECRET": settings.jwt_secret or urls.jwt_secret,
    }


def server_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment of a server process with these settings; it never contains the owner of the schema."""
    return {
        **{name: value for name, value in environ.items() if name != "DATABASE_OWNER_URL"},
        "DATABASE_WORKER_URL": settings.worker_url,
        # In a terminal Sanic would recommend its development mode.
        "SANIC_IGNORE_PRODUCTION_WARNING": "1",
    }
