"""An export as callers see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from server.export.export_store import Export, Part
from server.export.formats import COMPRESSIONS, FORMATS
from server.text.instants import format_instant


def file_name(export: Export, number: int | None = None) -> str:
    """Return the name of the file (of part ``number``) of ``export``."""
    kind = FORMATS[export.format]
    suffix = "" if kind.is_compressed_inside else COMPRESSIONS[export.compression][0]
    stem = f"llm-traces-{export.cut_at:%Y%m%dT%H%M%SZ}" if number is None else f"part-{number:05}"
    return f"{stem}.{kind.extension}{suffix}"


def media_type(export: Export) -> str:
    """Return the media type of the files of ``export``."""
    kind = FORMATS[export.format]
    if kind.is_compressed_inside or export.compression == "none":
        return kind.media_type
    return COMPRESSIONS[export.compression][1]


def summary(export: Export) -> dict[str, Any]:
    """Return the flat row of lists; every key is always there."""
    return {
        "export_id": export.export_id,
        "kind": export.kind,
        "state": export.state,
        "format": export.format,
        "compression": export.compression,
        "projects": list(export.projects),
        "rows": export.rows_before + export.row_count,
        "rows_before": export.rows_before,
        "bytes": export.byte_count,
        "sha256": export.sha256,
        "snapshot_at": format_instant(export.cut_at),
        "hidden_fields": list(export.hidden_fields),
        "problem": export.problem,
        "created_by": export.created_by,
        "created_at": _shown(export.created_at),
        "finished_at": _shown(export.finished_at),
        "expires_at": _shown(export.expires_at),
        "question": dict(export.question),
    }


def file_entries(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the files of a job."""
    entries = []
    rows = size = 0
    for part in parts:
        entries.append(
            {
                "name": part.file_name,
                "rows": part.row_count - rows,
                "bytes": part.byte_count - size,
                "sha256": part.sha256,
            }
        )
        rows, size = part.row_count, part.byte_count
    return entries


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else format_instant(moment)
