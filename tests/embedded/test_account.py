"""Which account the services run as, and what is opened for it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from server.embedded.account import Account, choose_account
from server.embedded.errors import EmbeddedError

STRANGER = Account("stranger", 54321, 54321, switch=True)


def test_without_root_the_services_run_as_the_user_and_as_root_never(tmp_path: Path) -> None:
    account = choose_account(tmp_path / "none", {})
    if os.geteuid() == 0:
        assert account.uid != 0
        assert account.switch
        assert account.extra_groups == []
    else:
        assert account == Account(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid(), switch=False)


def test_root_runs_the_services_as_the_owner_of_the_data_or_the_caller_of_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert choose_account(tmp_path / "none", {"SUDO_UID": str(someone.pw_uid)}).name == "nobody"
    if tmp_path.stat().st_uid != 0:
        assert choose_account(tmp_path, {"SUDO_UID": str(someone.pw_uid)}).uid == tmp_path.stat().st_uid


def test_data_of_somebody_else_are_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EmbeddedError, match=r"belongs to .*, not to you: .*OBSERVATORY_DATA_DIR"):
        choose_account(tmp_path, {})


def test_a_user_id_without_a_name_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(EmbeddedError, match=r"54321 has no name in /etc/passwd.*DATABASE_URL"):
        choose_account(tmp_path / "none", {})


def test_only_passing_through_is_granted_only_where_it_is_missing_and_it_is_said(tmp_path: Path) -> None:
    closed, open_enough = tmp_path / "closed", tmp_path / "closed" / "open"
    open_enough.mkdir(parents=True)
    open_enough.chmod(0o711)
    closed.chmod(0o700)
    news: list[str] = []
    STRANGER.open_way_to(open_enough, news.append)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(open_enough.stat().st_mode) == 0o711
    assert f"letting the account stranger pass through {closed} (chmod o+x)" in news
    assert not any(str(open_enough) in line for line in news)


def test_nothing_is_opened_when_no_other_account_is_needed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    Account("me", os.geteuid(), os.getegid(), switch=False).open_way_to(tmp_path, lambda _: pytest.fail("changed"))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
