"""Grafana's HTTP API as the installer uses it: grafana-api-client with time-outs, sub-paths, TLS and clear errors.

The client's paths are the API's (``client["datasources"]["uid"][uid]``); its ``create`` posts, ``replace`` puts.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from grafana_api_client import (
    GrafanaClient,
    GrafanaClientError,
    GrafanaException,
    GrafanaServerError,
    GrafanaUnauthorizedError,
)

Json = Any

TIMEOUT_SECONDS: Final = (5.0, 60.0)
"""Seconds to connect, and to wait for an answer: a panel's question may take as long as the server allows."""
OLDEST: Final = (11, 0)
_LONGEST_REASON: Final = 300


class GrafanaRefused(Exception):
    """Grafana refused a request; the message names the remedy."""


class Grafana:
    """One Grafana, asked with a service account token or with user and password."""

    def __init__(self, url: str, credential: str | tuple[str, str], *, verify: bool | str = True) -> None:
        """``url`` as in the browser, with its sub-path; ``verify`` is false, true or a file of certificates.

        Raises :class:`GrafanaRefused` for an invalid URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GrafanaRefused(
                f"{url!r} is not an address of a Grafana: write it as http://host:3000 or https://host/path."
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.url = url.rstrip("/")
        self._client = GrafanaClient(
            credential, host=host, port=parts.port, url_path_prefix=parts.path.strip("/"), protocol=parts.scheme
        )
        self._client.custom_requests_params = {"timeout": TIMEOUT_SECONDS, "verify": verify, "allow_redirects": False}

    def get(self, *path: str, **parameters: Any) -> Json:
        """Return the answer at ``path``; None if there is nothing. Raises :class:`GrafanaRefused`."""
        return self._ask("get", path, parameters, missing_is_none=True)

    def probe(self, *path: str) -> None:
        """Request ``path``, whose answer need not be JSON. Raises :class:`GrafanaRefused` unless it succeeds."""
        self._ask("get", path, {}, any_body=True)

    def post(self, *path: str, body: Json) -> Json:
        """Create at ``path``. Raises :class:`GrafanaRefused`."""
        return self._ask("post", path, body)

    def put(self, *path: str, body: Json) -> Json:
        """Replace at ``path``. Raises :class:`GrafanaRefused`."""
        return self._ask("put", path, body)

    def delete(self, *path: str) -> None:
        """Delete at ``path``; nothing there is fine. Raises :class:`GrafanaRefused`."""
        self._ask("delete", path, {}, missing_is_none=True, any_body=True)

    def editable_rules(self) -> None:
        """Let the rules that are written from now on be editable in Grafana's user interface."""
        self._client.session.headers["X-Disable-Provenance"] = "true"

    def version(self) -> str:
        """Return Grafana's version. Raises :class:`GrafanaRefused` if it cannot be reached or is too old."""
        health = self.get("health")
        version = str((health or {}).get("version", ""))
        numbers = [int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit()]
        if not numbers:
            raise GrafanaRefused(f"{self.url}/api/health does not tell a version: is that a Grafana?")
        if tuple(numbers) < OLDEST:
            raise GrafanaRefused(f"Grafana {version} is too old: {OLDEST[0]}.{OLDEST[1]} or newer is needed.")
        return version

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        payload: Json,
        *,
        missing_is_none: bool = False,
        any_body: bool = False,
    ) -> Json:
        endpoint = "/".join(path)
        try:
            return self._client.make_raw_request(method, endpoint, payload)
        except GrafanaUnauthorizedError as error:
            raise GrafanaRefused(
                "Grafana does not know this token or password. Make a service account of role Admin "
                "(Administration → Service accounts) and give its token with --token."
            ) from error
        except GrafanaClientError as error:
            status = _status_of(error)
            if status == 404 and missing_is_none:
                return None
            if status == 403:
                raise GrafanaRefused(
                    f"Grafana forbids {method.upper()} /api/{endpoint}: the service account needs the role Admin "
                    "of the organization that the token belongs to."
                ) from error
            raise GrafanaRefused(f"{method.upper()} /api/{endpoint}: {_words_of(error)}") from error
        except (
            GrafanaException,
            GrafanaServerError,
        ) as error:  # for a status of 500 or more the client has no exception of its own
            raise GrafanaRefused(f"{method.upper()} /api/{endpoint}: {_words_of(error)}") from error
        except requests.exceptions.SSLError as error:
            raise GrafanaRefused(
                f"The certificate of {self.url} is not trusted: name its authority with --ca FILE. ({error})"
            ) from error
        except requests.exceptions.JSONDecodeError as error:
            if any_body:  # a 204 has no body, but the client tries to read one
                return None
            raise GrafanaRefused(f"{self.url} does not answer as a Grafana does: check address and path.") from error
        except requests.RequestException as error:
            raise GrafanaRefused(f"{self.url} is not reached: {error}") from error


def _words_of(error: Exception) -> str:
    """Return the reason within the whole answer that the client put into ``error``.

    If a query failed, ``/api/ds/query`` still answers with all frames, which are many thousand characters.
    """
    text = str(error)
    try:
        answer = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return text[:_LONGEST_REASON]
    results = answer.get("results")
    reasons = [item["error"] for item in results.values() if item.get("error")] if isinstance(results, dict) else []
    return str(reasons[0] if reasons else answer.get("message") or text)[:_LONGEST_REASON]


def _status_of(error: GrafanaClientError) -> int:
    """Return the status, which the client has only in a text (``Client Error 404: …``)."""
    words = str(error).split(":", 1)[0].split()
    return int(words[-1]) if words and words[-1].isdigit() else 0
