"""Compression of a file as it is written: each page is a member of its own.

Members (gzip, RFC 1952 2.2) and frames (Zstandard, RFC 8878 3.1) may follow each other in one file, so a file
can be cut after any page and continued by appending another file.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Mapping
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL: Final = 6


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, _LEVEL, mtime=0)


def _zstd(data: bytes) -> bytes:
    return zstd.compress(data)


COMPRESSORS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "none": lambda data: data,
    "gzip": _gzip,
    "zstd": _zstd,
}
"""Functions by the name of the compression. An empty piece stays empty, so that it adds no member."""


def compressed(data: bytes, compression: str) -> bytes:
    """Return ``data`` as a member of a file with that ``compression``."""
    return COMPRESSORS[compression](data) if data else b""
