"""The settings of how content is stored: a part of the table of :mod:`server.settings`, which has them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.text.setting_values import one_of, setting

AUTO: Final = "auto"
INLINE: Final = "inline"
SHARED: Final = "shared"


@dataclass(frozen=True, kw_only=True)
class ContentSettings:
    """In which layout prompts and answers are stored; see docs/explanation/shared-content.md."""

    content_layout: str = setting(
        "OBSERVATORY_CONTENT_LAYOUT",
        AUTO,
        "How the prompts and answers of new spans are stored: `inline` (in each span), `shared` (each message once a "
        "project and week) or `auto`: `shared`, in a database with spans of a version before it from the Monday after "
        "the upgrade on, and `inline` with `DATABASE_DISTRIBUTION`. Stored spans stay as they are, and both are read.",
        parse=one_of(AUTO, INLINE, SHARED),
    )
