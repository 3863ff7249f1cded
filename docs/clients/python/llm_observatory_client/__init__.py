"""Client of the LLM Observatory API.

from llm_observatory_client import Client

with Client("http://127.0.0.1:8080", token) as observatory:
    for span in observatory.traces(model="gpt-4.1-mini", **{"from": "now-24h"}):
        print(span["span_name"], span["total_cost_usd"])
"""

from llm_observatory_client.async_client import AsyncClient
from llm_observatory_client.errors import (
    AccessDenied,
    ApiError,
    InvalidCredential,
    InvalidRequest,
    NotFound,
    RateLimited,
    ServerFailed,
    StreamEnded,
    TransportFailed,
)
from llm_observatory_client.frames import to_pandas, to_polars
from llm_observatory_client.live import LiveEvent
from llm_observatory_client.requests import Page, Retries
from llm_observatory_client.sync_client import Client

__all__ = [
    "AccessDenied",
    "ApiError",
    "AsyncClient",
    "Client",
    "InvalidCredential",
    "InvalidRequest",
    "LiveEvent",
    "NotFound",
    "Page",
    "RateLimited",
    "Retries",
    "ServerFailed",
    "StreamEnded",
    "TransportFailed",
    "to_pandas",
    "to_polars",
]
