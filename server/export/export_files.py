"""Where export jobs put their files: a directory, or S3-compatible storage.

A file is there whole or not at all: a directory gets it by rename, an object store by completing its upload.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from server.errors import NotFound
from server.settings import Settings, SettingsError

READ_BYTES: Final = 256 * 1024
DIRECTORY_MODE: Final = 0o700


class ExportFiles(Protocol):
    """The files of all jobs, each called ``EXPORT_ID/NAME``. Raises OSError for what the storage refuses."""

    async def write(self, export_id: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a file, in place of one of that name; nothing of it stays if ``chunks`` raises."""

    def read(self, export_id: str, name: str) -> AsyncIterator[bytes]:
        """Yield a file. Raises :class:`NotFound`."""

    async def delete(self, export_id: str) -> None:
        """Remove all files of one export."""


class DirectoryFiles:
    """Files in a directory of this machine, or one that all servers mount."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, export_id: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a file: synced, then renamed."""
        folder = self._root / export_id
        await asyncio.to_thread(folder.mkdir, DIRECTORY_MODE, parents=True, exist_ok=True)
        unfinished = folder / f".{name}.unfinished"
        file = await asyncio.to_thread(unfinished.open, "wb")
        try:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync, file)
        except BaseException:
            with suppress(OSError):  # a full disk refuses what is still in the buffer again
                file.close()
            unfinished.unlink(missing_ok=True)
            raise
        await asyncio.to_thread(unfinished.replace, folder / name)

    async def read(self, export_id: str, name: str) -> AsyncIterator[bytes]:
        """Yield a file."""
        try:
            file = await asyncio.to_thread((self._root / export_id / name).open, "rb")
        except FileNotFoundError as error:
            raise NotFound("The file is not there any more.") from error
        try:
            while chunk := await asyncio.to_thread(file.read, READ_BYTES):
                yield chunk
        finally:
            file.close()

    async def delete(self, export_id: str) -> None:
        """Remove the export's folder."""
        await asyncio.to_thread(shutil.rmtree, self._root / export_id, ignore_errors=True)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


class ObjectFiles:
    """Files in S3-compatible storage, by obstore."""

    def __init__(self, store: Any) -> None:
        """``store`` is one of obstore's."""
        self._store = store

    async def write(self, export_id: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an object by a multipart upload."""
        await self._store.put_async(f"{export_id}/{name}", chunks, use_multipart=True)

    async def read(self, export_id: str, name: str) -> AsyncIterator[bytes]:
        """Yield an object."""
        try:
            found = await self._store.get_async(f"{export_id}/{name}")
        except FileNotFoundError as error:
            raise NotFound("The file is not there any more.") from error
        async for chunk in found.stream(min_chunk_size=READ_BYTES):
            yield bytes(chunk)

    async def delete(self, export_id: str) -> None:
        """Remove the export's objects."""
        async for batch in self._store.list(f"{export_id}/"):
            await self._store.delete_async([item["path"] for item in batch])


def open_files(settings: Settings) -> ExportFiles:
    """Return the storage that the settings name.

    :raises SettingsError: it is S3, and the package for that is not installed.
    """
    url = settings.export_url
    if not url.startswith("s3://"):
        return DirectoryFiles(Path(url.removeprefix("file://")) if url else settings.data_dir / "exports")
    if find_spec("obstore") is None:
        raise SettingsError("EXPORT_URL names S3: install llm-observatory-grafana[s3]")
    from obstore.store import S3Store  # an extra

    options: Any = {"allow_http": True} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}
    return ObjectFiles(S3Store.from_url(url, client_options=options))
