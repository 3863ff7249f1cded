"""Commands that end by themselves: help, settings, exit codes, results on standard output and nothing else there."""

from __future__ import annotations

import argparse
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from server.cli import make_parser
from server.settings import Settings
from server.text.setting_values import masked
from tests.conftest import ProjectMaker
from tests.docs.render import commands
from tests.process.conftest import Starter
from tests.process.program import run


def parsers(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command and group of commands, as the words that are typed."""
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, (*path, name))


@pytest.mark.parametrize("words", list(parsers(make_parser())), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        make_parser().parse_args([*words, "--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: llm-observatory")
    groups = {path[:-1] for path in parsers(make_parser()) if path}
    assert words in groups or "examples:\n" in text


def test_every_argument_says_what_it_is() -> None:
    silent = [
        (words, action.dest) for words, one in commands(make_parser()) for action in one._actions if not action.help
    ]
    assert silent == []


def test_the_installed_program_prints_its_help_and_version() -> None:
    shown = run("--help", settings={})
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "serve" in shown.stdout
    assert run("--version", settings={}).stdout.startswith("llm-observatory ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--port"],
        ["token", "create"],
        ["token", "create", "--role", "king", "--project", "a"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_is_exit_code_2_and_an_explanation_on_standard_error(arguments: list[str]) -> None:
    result = run(*arguments, settings={})
    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: llm-observatory" in result.stderr


def test_config_prints_every_setting_and_no_secret() -> None:
    given = {"JWT_SECRET": "very-secret-very-secret-very-secret", "OBSERVATORY_PORT": "9999"}
    result = run("config", settings=given)
    assert (result.returncode, result.stderr) == (0, "")
    shown = dict(line.split("=", 1) for line in result.stdout.splitlines())
    expected = masked(Settings(jwt_secret=given["JWT_SECRET"], port=9999))
    assert shown == expected
    assert shown["JWT_SECRET"] == "***"
    assert shown["JWT_KEYS_FILE"] == "", "what is not set is empty in an environment file"


def test_an_unusable_setting_is_exit_code_1_and_named_without_its_secret() -> None:
    wrong = {"OBSERVATORY_PORT": "many", "DATABASE_POOL_SIZE": "-1", "OBSERVATORY_DRAIN_DELAY": "soon"}
    result = run("config", settings=wrong)
    assert (result.returncode, result.stdout) == (1, "")
    assert "OBSERVATORY_PORT: expected a whole number from 0 to 65535 (got 'many')" in result.stderr
    assert "OBSERVATORY_DRAIN_DELAY: expected a number from 0 to" in result.stderr
    assert "DATABASE_POOL_SIZE" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_without_a_jwt_secret_is_refused_with_the_way_out(serve_settings: dict[str, str]) -> None:
    result = run("serve", settings={**serve_settings, "JWT_SECRET": ""})
    assert result.returncode == 1
    assert "JWT_SECRET is not set" in result.stderr
    assert "openssl rand" in result.stderr


def test_an_address_of_another_kind_of_database_is_refused_without_showing_it() -> None:
    result = run("serve", settings={"DATABASE_URL": "mysql://user:geheim@db/x", "JWT_SECRET": "s" * 40})
    assert (result.returncode, result.stdout) == (1, "")
    assert "DATABASE_URL: expected an address that begins with postgresql://" in result.stderr
    assert "geheim" not in result.stderr


def test_migrate_says_which_setting_to_look_at_when_nothing_answers() -> None:
    result = run("migrate", settings={"DATABASE_URL": "postgresql://x:geheim@127.0.0.1:1/x", "JWT_SECRET": "s" * 40})
    assert (result.returncode, result.stdout) == (1, "")
    assert "cannot be reached" in result.stderr
    assert "DATABASE_URL" in result.stderr
    assert "geheim" not in result.stderr


def test_a_setting_that_only_the_server_can_judge_is_refused_once(serve_settings: dict[str, str]) -> None:
    result = run("serve", "--workers", "2", settings={**serve_settings, "JWT_SECRET": "too-short"})
    assert result.returncode == 1
    assert "llm-observatory: JWT_SECRET: at least 32 bytes are needed" in result.stderr
    assert "Traceback" not in result.stderr
    assert "too-short" not in result.stderr


def test_a_port_in_use_is_named_with_the_way_out(serve_settings: dict[str, str], taken_port: int) -> None:
    result = run("serve", "--port", str(taken_port), settings=serve_settings)
    assert result.returncode == 1
    assert f"port {taken_port} on 127.0.0.1 is in use: choose another with --port" in result.stderr
    assert "Traceback" not in result.stderr


def test_migrate_reports_that_the_schema_is_up_to_date(serve_settings: dict[str, str]) -> None:
    result = run("migrate", settings=serve_settings)
    assert (result.returncode, result.stdout) == (0, "the schema is up to date\n")


def test_migrate_needs_the_address_of_the_database_alone(serve_settings: dict[str, str]) -> None:
    """A restored database is named so, and the private one of the folder is never taken in its place."""
    address = {"DATABASE_OWNER_URL": serve_settings["DATABASE_OWNER_URL"]}
    for arguments in (["migrate"], ["migrate", "--plan"]):
        result = run(*arguments, settings=address)
        assert (result.returncode, result.stdout, result.stderr) == (0, "the schema is up to date\n", "")
    unreachable = run("migrate", settings={"DATABASE_OWNER_URL": "postgresql://x@127.0.0.1:1/x"})
    assert unreachable.returncode == 1
    assert "cannot be reached" in unreachable.stderr


@pytest.mark.parametrize("name", ["DATABASE_OWNER_URL", "DATABASE_WORKER_URL"])
def test_a_role_of_a_database_without_its_address_is_refused(name: str) -> None:
    result = run("project", "list", settings={name: "postgresql://x@db/x"})
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{name} is set and DATABASE_URL is not" in result.stderr


def test_token_create_prints_only_the_token(serve_settings: dict[str, str]) -> None:
    result = run(
        "token", "create", "--role", "viewer", "--project", "shop", "--scope", "metrics:read", "--ttl", "15m",
        settings=serve_settings,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    _, payload, _ = result.stdout.strip().split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["role"], claims["projects"], claims["scope"]) == ("viewer", ["shop"], "metrics:read")
    assert claims["exp"] - claims["iat"] == 900


def test_a_grant_that_nobody_may_have_is_refused(serve_settings: dict[str, str]) -> None:
    result = run("token", "create", "--role", "viewer", "--project", "*", settings=serve_settings)
    assert (result.returncode, result.stdout) == (1, "")
    assert "only an admin may have the grant of every project" in result.stderr


def test_tokens_are_made_before_the_private_services_ever_ran(tmp_path: Path) -> None:
    settings = {"OBSERVATORY_DATA_DIR": str(tmp_path / "data")}
    result = run("token", "create", "--role", "admin", "--project", "*", settings=settings)
    assert result.returncode == 0
    assert [entry.name for entry in sorted((tmp_path / "data").iterdir())] == [".gitignore", "jwt_secret"]


def test_projects_keys_and_clients_are_managed_and_open_the_server(
    start: Starter, serve_settings: dict[str, str]
) -> None:
    def command(*arguments: str, code: int = 0) -> str:
        result = run(*arguments, settings=serve_settings)
        assert result.returncode == code, result.stderr
        return result.stdout if code == 0 else result.stderr

    command("project", "create", "shop", "--name", "Web shop")
    assert "is or was in use" in command("project", "create", "shop", code=1)
    assert "project_id" in command("project", "create", "Not An Id", code=1)
    assert command("project", "list") == "shop\tWeb shop\n"

    early = run("key", "create", "--kind", "ingest", "--project", "shpo", "--label", "x", settings=serve_settings)
    assert early.returncode == 0
    assert "there is no project shpo: until `llm-observatory project create shpo`, it opens nothing" in early.stderr
    command("key", "revoke", early.stdout.split("_")[1])
    key = command("key", "create", "--kind", "ingest", "--project", "shop", "--label", "checkout").strip()
    key_id = key.split("_")[1]
    year = f"{datetime.now(UTC) + timedelta(days=365):%Y-%m-%d}"
    row = [key_id, "ingest", "developer", "shop", "active", year, "never", "checkout\n"]
    assert command("key", "list").splitlines(keepends=True)[0].split("\t") == row, (
        "as long as a key that was made over REST"
    )

    credentials = dict(
        line.split("=", 1)
        for line in command("client", "create", "--name", "job", "--role", "viewer", "--project", "shop").splitlines()
    )
    assert command("client", "list").startswith(f"{credentials['client_id']}\tviewer\tshop\tactive")

    server = start()
    send = {"content": b"", "headers": {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {key}"}}
    assert httpx.post(f"{server.base_url}/v1/traces", **send).status_code == 200  # type: ignore[arg-type]
    answer = httpx.post(
        f"{server.base_url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=(credentials["client_id"], credentials["client_secret"]),
    )
    assert answer.status_code == 200, answer.text

    command("key", "revoke", key_id)
    assert f"there is no key {key_id[::-1]}" in command("key", "revoke", key_id[::-1], code=1)
    command("client", "disable", credentials["client_id"])
    assert "\trevoked\t" in command("key", "list")
    assert "\tdisabled\t" in command("client", "list")


async def test_files_of_the_collector_are_sent_and_sending_them_again_changes_nothing(
    start: Starter, serve_settings: dict[str, str], project: ProjectMaker, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await project("shop")
    start_ns = time.time_ns() - 60 * 10**9
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "name": "chat",
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + 10**9),
    }
    file = tmp_path / "traces.jsonl"
    file.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n")
    server = start()
    for _ in range(2):
        result = run("ingest", "--project", "shop", "--url", server.base_url, str(file), settings=serve_settings)
        assert (result.returncode, result.stdout) == (0, f"{file}\t1\t0\n"), result.stderr
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 1

    unreadable = tmp_path / "notes.txt"
    unreadable.write_text("not telemetry")
    result = run("ingest", "--project", "shop", "--url", server.base_url, str(unreadable), settings=serve_settings)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(unreadable) in result.stderr
    assert "Traceback" not in result.stderr


async def test_rollups_are_rebuilt_for_the_days_and_projects_named(
    serve_settings: dict[str, str], project: ProjectMaker
) -> None:
    await project("shop")
    days = ["--from", "2026-05-01", "--to", "2026-05-02"]
    result = run("rollup", "rebuild", *days, settings=serve_settings)
    assert (result.returncode, result.stdout) == (0, "shop\t2026-05-01\nshop\t2026-05-02\n"), result.stderr
    result = run("rollup", "rebuild", "--project", "nobody", settings=serve_settings)
    assert (result.returncode, result.stderr) == (1, "llm-observatory: there is no project nobody\n")
    assert run("rollup", "rebuild", "--from", "May", settings=serve_settings).returncode == 2
    result = run("rollup", "rebuild", "--from", "2026-05-02", "--to", "2026-05-01", settings=serve_settings)
    assert (result.returncode, result.stderr) == (1, "llm-observatory: --to is before --from\n")


def test_token_rotate_key_makes_and_rotates_the_key_file(tmp_path: Path) -> None:
    settings = {"JWT_ALGORITHM": "ES256", "JWT_KEYS_FILE": str(tmp_path / "keys.json"), "JWT_SECRET": "s" * 32}
    made = [run("token", "rotate-key", settings=settings).stdout.strip() for _ in range(3)]
    kept = json.loads((tmp_path / "keys.json").read_text())["keys"]
    assert [key["kid"] for key in kept] == [made[2], made[1]]
    refused = run("token", "rotate-key", settings={"JWT_SECRET": "s" * 32})
    assert refused.returncode != 0
    assert "JWT_KEYS_FILE" in refused.stderr
