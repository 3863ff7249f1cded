"""Asks as the back end of Grafana's Infinity data source (3.11) does: same address, headers, bodies and paging.

An error of that back end is an error here, too: a status of 400 or more, an empty body, a missing cursor, a value that
does not have the type of its column, times that go back in a series.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import httpx

Json = dict[str, Any]

ACCEPT = "application/json;q=0.9,text/plain"
GO_AGENT = "Go-http-client/1.1"


class InfinityError(AssertionError):
    """The error that the panel would show, or that the alert rule would fail with."""


@dataclass
class ClientCredentials:
    """Go's oauth2 library with ``authStyle`` 0: the Basic header first, the form when that fails."""

    token_url: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    sent_styles: list[str] = field(default_factory=list)
    _token: str = ""
    _expires: float = 0.0

    async def header(self, http: httpx.AsyncClient) -> str:
        if not self._token or time.time() > self._expires - 10:
            answer = await self._ask(http, in_header=True)
            if answer.status_code != 200:
                answer = await self._ask(http, in_header=False)
            if answer.status_code != 200:
                raise InfinityError(answer.text)
            body = json.loads(answer.content)
            if type(body["expires_in"]) is not int or body["token_type"].lower() != "bearer":
                raise InfinityError(f"a token that Go does not read: {body}")
            self._token, self._expires = body["access_token"], time.time() + body["expires_in"]
        return f"Bearer {self._token}"

    async def _ask(self, http: httpx.AsyncClient, *, in_header: bool) -> httpx.Response:
        form = {"grant_type": "client_credentials"}
        if self.scopes:
            form["scope"] = " ".join(self.scopes)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": GO_AGENT}
        if in_header:
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        self.sent_styles.append("header" if in_header else "form")
        return await http.post(self.token_url, content=urlencode(sorted(form.items())), headers=headers)


@dataclass
class Infinity:
    """A data source: base address, credential, and the dashboard's range."""

    http: httpx.AsyncClient
    base: str
    credential: ClientCredentials | str
    start: datetime
    end: datetime
    pages: list[Json] = field(default_factory=list)
    """The bodies of the answers to the latest query."""

    async def query(self, model: Json) -> list[list[Any]]:
        """Return the rows of a query model, one value a column."""
        self.pages = []
        is_paged = model.get("pagination_mode") == "cursor"
        cursor: str | None = None
        while True:
            more = [] if cursor is None else [(model["pagination_param_cursor_field_name"], cursor)]
            self.pages.append(await self._page(model, more))
            if not is_paged:
                break
            path = model["pagination_param_cursor_extraction_path"]
            if path not in self.pages[-1]:
                raise InfinityError("error while extracting the cursor value")
            cursor = self.pages[-1][path]
            if not cursor or len(self.pages) > model["pagination_max_pages"]:
                break
        columns = model["columns"]
        found = [row for page in self.pages for row in page[model["root_selector"]]]
        rows = [[typed(row, column) for column in columns] for row in found]
        if model["format"] == "timeseries":
            times = [row[0] for row in rows]
            if times != sorted(times):
                raise InfinityError("long series must be sorted ascending by time to be converted")
        return rows

    async def _page(self, model: Json, more: list[tuple[str, str]]) -> Json:
        options = model["url_options"]
        url = model["url"] if model["url"].startswith(self.base) else self.base + model["url"]
        address = urlsplit(url)
        params = parse_qsl(address.query, keep_blank_values=True)
        params += [(item["key"], self._with_macros(item["value"])) for item in options.get("params", [])] + more
        # url.Values.Encode: by name, blanks as "+".
        query = urlencode(sorted(params, key=lambda pair: pair[0]))
        headers = {"Accept": ACCEPT, "User-Agent": GO_AGENT, "Accept-Encoding": "gzip"}
        credential = self.credential
        headers["Authorization"] = credential if isinstance(credential, str) else await credential.header(self.http)
        content = None
        if options["method"] == "POST":
            content = self._with_macros(options["data"])
            if options["body_content_type"]:
                headers["Content-Type"] = options["body_content_type"]
        # The client library would tidy the address up; Go sends it as it is.
        target = f"{address.path}?{query}" if query else address.path
        request = self.http.build_request(options["method"], "/", headers=headers, content=content)
        request.url = request.url.copy_with(raw_path=target.encode())
        answer = await self.http.send(request)
        if answer.status_code >= 400:
            raise InfinityError(f"unsuccessful HTTP response. {answer.status_code} {answer.text}")
        page: Json = json.loads(answer.content)
        return page

    def _with_macros(self, text: str) -> str:
        for macro, moment in (("From", self.start), ("To", self.end)):
            utc = moment.astimezone(UTC)
            text = text.replace(f"${{__time{macro}}}", str(int(utc.timestamp() * 1000)))
            text = text.replace(f"${{__time{macro}:date:iso}}", utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
            text = text.replace(f"${{__time{macro}:date:seconds}}", str(int(utc.timestamp())))
        return text


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "timestamp_epoch": (int,),
    "timestamp": (str,),
    "boolean": (bool,),
}


def typed(row: Json, column: Json) -> Any:
    """Return the value of a column, which may be null but not missing or of another type."""
    if column["selector"] not in row:
        raise InfinityError(f"no {column['selector']} in {sorted(row)}")
    value = row[column["selector"]]
    if value is not None and not isinstance(value, TYPES[column["type"]]):
        raise InfinityError(f"{column['selector']} is {value!r}, not a {column['type']}")
    return value
