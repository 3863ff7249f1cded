"""Sanic's application with the steps of a request written out: the parts that this server uses, and nothing in
between."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import ServerError
from sanic.http.constants import Stage
from sanic.response import BaseHTTPResponse

from server.access.rate_policy import network_of
from server.errors import RateLimited
from server.fairness.large_answers import LARGE_BYTES, LargeAnswers
from server.fairness.pace import Pace
from server.fairness.party import SERVER, UNKNOWN_CALLERS, current_party
from server.fairness.spared import Spared
from server.http.body_limit import body_limit
from server.http.client_address import client_address
from server.http.guard import AccessPolicy, access_policy, admit_early
from server.http.wire.connection import answer_size
from server.http.wire.protocol import EdgeProtocol

REFUSALS: Final = (200, 50)
"""Refusals that a caller gets at once, and refusals per second after that (:mod:`server.fairness.pace`)."""
ABANDONED: Final = (100, 10)
"""The same for questions that a tenant began and left: each may have cost the database more than a small answer."""
OPEN: Final = (200, 100, 0.5)
"""The same for small answers that need no credential, by address and route; the last number is the longest wait in
seconds, short because probes are among them."""
DOCUMENTS: Final = (40, 20)
"""The same for documents that need no credential, by address. An address with forty that wait is refused the next."""


class HttpApp(Sanic[Any, Any]):
    """Sanic, except for two things.

    A request goes from the router to its handler and back without signals, which Sanic would look up and start a task
    for; middleware runs if there is any. Routes are not parsed for the kind of answer they return: that would take most
    of the start-up time, and every error here is JSON.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The server.process.accept_gate.AcceptGate of a server process.
        self.ctx.gate = None
        self.ctx.spared = defaultdict(Spared)
        self.ctx.refusals = Pace(*REFUSALS)
        self.ctx.abandoned = Pace(*ABANDONED)
        self.ctx.large_answers = LargeAnswers()
        self.ctx.opened = Pace(*OPEN)
        self.ctx.documents = Pace(*DOCUMENTS)

    def _determine_error_format(self, handler: Any) -> str:
        return "json"

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """Create a server like Sanic's method, with our reading and writing of HTTP."""
        return await super().create_server(*args, **{"protocol": EdgeProtocol, **options})

    async def handle_request(self, request: Request) -> None:
        """Route, admit, read the body, call the handler, send its answer.

        Bodies are refused before they are read and WebSockets before their handshake, so admission happens here; for
        other requests it is the first step of their handler (:mod:`server.http.guard`).
        """
        is_routed = False
        stream: Any = request.stream
        answer_place = None
        current_party.set(SERVER)  # until the caller is known: one connection's task can serve several callers
        try:
            route, handler, arguments = self.router.get(request.path, request.method, request.headers.get("host"))
            request.route, request._match_info = route, {**arguments}
            policy = access_policy(handler)
            if policy is not None and policy.scope is None:
                await self._open(request, policy)
            is_websocket = hasattr(handler, "is_websocket")
            if stream.request_body or is_websocket:
                stream.request_max_size = body_limit(request.path)
                await admit_early(request, handler)
            if stream.request_body and not route.extra.ignore_body:
                if hasattr(handler, "is_stream"):
                    stream.request_max_size = float("inf")
                else:
                    request.body = await stream.read_whole(stream.request_max_size)
            is_routed = True
            response: Any = None
            if route.extra.request_middleware:
                response = await self._run_request_middleware(  # type: ignore[no-untyped-call]
                    request, route.extra.request_middleware
                )
            if not response:
                response = await handler(request, **request._match_info)
            if isinstance(response, HTTPResponse) and (size := answer_size(response)) > LARGE_BYTES:
                answer_place = await self.ctx.services.answers.take(size)
            if request.responded:
                response = stream.response
            elif response is not None:
                response = await request.respond(response)
            if stream.stage is Stage.HANDLER and isinstance(response, BaseHTTPResponse):
                await stream.http1_response_header(b"", True)  # nothing of it has been sent yet
            elif isinstance(response, BaseHTTPResponse):
                await response.send(end_stream=True)
            elif not is_websocket:
                raise ServerError(f"a handler returned {response!r}, which is not an answer")
        except Exception as error:  # noqa: BLE001  # whatever it is, it becomes an answer
            await self._pace(request, error)
            await self.handle_exception(request, error, run_middleware=not is_routed)
        finally:
            stream.let_go_of_body()
            if answer_place is not None:
                try:
                    await stream.protocol.taken()
                finally:
                    self.ctx.services.answers.give_back(answer_place)

    async def _open(self, request: Request, policy: AccessPolicy) -> None:
        """Wait if the address of the caller sends very many requests that need no credential, and so have no limit.

        Raises RateLimited beyond that for a large answer.
        """
        caller = network_of(client_address(request))
        if policy.is_document:
            await self.ctx.documents.take_turn(caller, "documents")
        else:
            caller = f"{caller}\n{request.route.path if request.route is not None else ''}"
            self.ctx.opened.count(caller)
            await self.ctx.opened.wait(caller)

    async def _pace(self, request: Request, error: Exception) -> None:
        """Delay the answer to a caller that is refused too often, be it unknown or beyond its limits."""
        party = current_party.get()
        is_known = party.tenant not in (SERVER.tenant, UNKNOWN_CALLERS)
        if not is_known:
            caller = network_of(client_address(request))
        elif isinstance(error, RateLimited):
            caller = f"{party.tenant}\n{party.principal}"
        else:
            return
        self.ctx.refusals.count(caller)
        await self.ctx.refusals.wait(caller)
