"""The stored form of a vector: half precision in bytes, and two bits for each element, its sign and its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

_HALF: Final = np.dtype("<f2")
LARGE: Final = 0.98
"""An element counts as large from so many times the root of the mean of all squares on: where two bits tell the most
about a normally distributed number (Max, "Quantizing for Minimum Distortion", 1960)."""


def unit(vectors: NDArray[np.floating]) -> Vector:
    """Return ``vectors`` (a row each) with length 1.

    :raises ValueError: one has no direction: it is zero or not finite.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(lengths).all() or (lengths < 1e-9).any():
        raise ValueError("a vector is zero or not finite")
    found: Vector = (rows / lengths[:, None]).astype(np.float32)
    return found


def to_bytes(vector: Vector) -> bytes:
    """Return a vector as it is stored."""
    return vector.astype(_HALF).tobytes()


def to_bits(vector: Vector) -> asyncpg.BitString:
    """Return the signs of the elements: a 1 for each that is greater than zero."""
    return asyncpg.BitString.frombytes(np.packbits(vector > 0).tobytes(), bitlength=len(vector))


def to_sizes(vector: Vector) -> asyncpg.BitString:
    """Return the sizes of the elements of a vector of length 1: a 1 for each that is :data:`LARGE`."""
    large = np.abs(vector) > LARGE / np.sqrt(len(vector))
    return asyncpg.BitString.frombytes(np.packbits(large).tobytes(), bitlength=len(vector))


def from_bytes(stored: Iterable[bytes], dimensions: int) -> Vector:
    """Return stored vectors, a row each."""
    return np.frombuffer(b"".join(stored), dtype=_HALF).reshape(-1, dimensions).astype(np.float32)


def similarities(vectors: Vector, question: Vector) -> NDArray[np.float64]:
    """Return the cosine of each of ``vectors`` and ``question``, all of length 1, to six digits.

    A row's sum does not depend on the other rows, as that of a matrix product may: pages of a list agree on it.
    """
    found: NDArray[np.float64] = np.round((vectors * question).sum(axis=1, dtype=np.float64), 6)
    return found
