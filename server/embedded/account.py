"""The account that the embedded services run as.

PostgreSQL refuses to run as root. Started by root, the services therefore run as, in this order: the owner of data that
is already there, the person who called sudo, the account ``postgres``, the account ``nobody``. That account must be
able to *reach* the binaries and the data folder, so folders on the way there get the execute bit for others (``chmod
o+x``: pass through, not list, not read) where it is missing, and each such change is announced. Nothing else is ever
changed.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.embedded.errors import EmbeddedError

FALLBACK_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An operating system account; ``switch``: a child has to change to it."""

    name: str
    uid: int
    gid: int
    switch: bool

    @property
    def user(self) -> int | None:
        """subprocess's ``user`` for a child that runs as this account."""
        return self.uid if self.switch else None

    @property
    def group(self) -> int | None:
        """subprocess's ``group``."""
        return self.gid if self.switch else None

    @property
    def extra_groups(self) -> list[int] | None:
        """subprocess's ``extra_groups``: root's own groups are dropped."""
        return [] if self.switch else None

    def own(self, path: Path) -> None:
        """Hand one file or folder over to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def may_pass(self, folder: os.stat_result) -> bool:
        """Return whether the account may pass through a folder (supplementary groups are dropped, so they do not
        count).
        """
        if folder.st_uid == self.uid:
            return bool(folder.st_mode & stat.S_IXUSR)
        if folder.st_gid == self.gid:
            return bool(folder.st_mode & stat.S_IXGRP)
        return bool(folder.st_mode & stat.S_IXOTH)

    def open_way_to(self, path: Path, announce: Callable[[str], None]) -> None:
        """Let the account pass through the folders above (and including) ``path``."""
        if not self.switch:
            return
        for folder in (*reversed(path.resolve().parents), path.resolve()):
            found = folder.stat()
            if not stat.S_ISDIR(found.st_mode) or self.may_pass(found):
                continue
            announce(f"letting the account {self.name} pass through {folder} (chmod o+x)")
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def choose_account(existing_data: Path, environ: Mapping[str, str]) -> Account:
    """Choose the account for the services.

    :param existing_data: the folder of the PostgreSQL cluster, which may not exist yet.
    :raises EmbeddedError: no account fits, or the data belong to somebody else.
    """
    uid = os.geteuid()
    owner = existing_data.stat().st_uid if existing_data.exists() else None
    if uid != 0:
        if owner not in (None, uid):
            raise EmbeddedError(
                f"{existing_data} belongs to {_name_of(owner)}, not to you: start as that account or as root, "
                "or set OBSERVATORY_DATA_DIR to another folder"
            )
        return _account(uid, switch=False)
    if owner:
        return _account(owner, switch=True)
    if environ.get("SUDO_UID", "").isdigit() and int(environ["SUDO_UID"]) != 0:
        return _account(int(environ["SUDO_UID"]), switch=True)
    for name in FALLBACK_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid, switch=True)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is neither an account 'postgres' nor 'nobody': "
        "start as an ordinary user, or set DATABASE_URL and REDIS_URL to services of your own"
    )


def _account(uid: int, *, switch: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"the user id {uid} has no name in /etc/passwd, which PostgreSQL needs: add one, "
            "start as a named user, or set DATABASE_URL and REDIS_URL to services of your own"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switch)


def _name_of(uid: int | None) -> str:
    try:
        return f"the account {pwd.getpwuid(uid or 0).pw_name}"
    except KeyError:
        return f"the user id {uid}"
