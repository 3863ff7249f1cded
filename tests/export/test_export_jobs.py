"""POST /api/v1/exports: files in parts, in a directory or in S3, whole after crashes, gone when they expire."""

from __future__ import annotations

import asyncio
import hashlib
import io
import resource
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import asyncpg
import httpx
import pyarrow.parquet as pq
import pytest

from server.errors import DatabaseUnavailable
from server.export import export_run, pages
from server.export.export_files import DirectoryFiles, ExportFiles, open_files
from server.export.export_jobs import ExportJobs
from server.export.export_store import ExportStore
from server.http.services import Services
from tests.conftest import AppServer
from tests.export.conftest import COUNT, spans

JOBS = "/api/v1/exports"


@pytest.fixture
def files(tmp_path: Path) -> ExportFiles:
    return DirectoryFiles(tmp_path)


@pytest.fixture
async def jobs(app_server: AppServer, files: ExportFiles, monkeypatch: pytest.MonkeyPatch) -> ExportJobs:
    """The jobs of a process beside the server, which takes none itself and serves the same files."""
    monkeypatch.setattr(pages, "MOST_ROWS", 50)
    services = app_server.services
    await services.exports.jobs.task.stop()
    services.exports.files = files
    return beside(services, files)


def beside(services: Services, files: ExportFiles) -> ExportJobs:
    made = ExportJobs(ExportStore(services.writes, services.worker), services.reads, files)
    made.part_bytes = 1_000
    return made


async def asked(api: httpx.AsyncClient, **document: Any) -> str:
    answer = await api.post(JOBS, json=document)
    assert answer.status_code == 202, answer.text
    assert answer.json()["data"]["state"] == "queued"
    return str(answer.json()["data"]["export_id"])


async def manifest_of(api: httpx.AsyncClient, export_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"{JOBS}/{export_id}")).json()["data"]
    return found


async def rows_of(api: httpx.AsyncClient, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of all files of a Parquet job, each checked against its entry."""
    rows = []
    for entry in manifest["files"]:
        body = (await api.get(f"{JOBS}/{manifest['export_id']}/files/{entry['name']}")).content
        assert (len(body), hashlib.sha256(body).hexdigest()) == (entry["bytes"], entry["sha256"])
        table = pq.read_table(io.BytesIO(body))
        assert table.num_rows == entry["rows"]
        rows += table.to_pylist()
    return rows


async def test_a_job_writes_parts_with_a_manifest(api: httpx.AsyncClient, jobs: ExportJobs) -> None:
    export_id = await asked(api, format="parquet", filter={"field": "user_id", "operator": "ne", "value": "NULL"})
    assert await jobs.work()
    assert not await jobs.work()
    manifest = await manifest_of(api, export_id)
    assert manifest["state"] == "complete"
    assert len(manifest["files"]) > 1
    rows = await rows_of(api, manifest)
    expected = [span for span in spans() if span.user_id != "NULL"]
    assert len(rows) == manifest["rows"] == len(expected)
    assert sum(row["total_cost_usd"] for row in rows) == sum((span.total_cost_usd for span in expected), Decimal())
    stored = (await api.get(f"{JOBS}/{export_id}/files/manifest.json")).json()
    assert stored["files"] == manifest["files"]
    assert [row["export_id"] for row in (await api.get(JOBS)).json()["data"]] == [export_id]


async def test_a_job_whose_process_died_is_finished_by_another(
    api: httpx.AsyncClient,
    app_server: AppServer,
    jobs: ExportJobs,
    files: ExportFiles,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second process goes on after the last whole part and rewrites the one that was being written."""
    export_id = await asked(api, format="parquet")
    pieces = export_run.ExportRun.pieces
    begun = 0

    async def dying(self: Any, **options: Any) -> AsyncIterator[Any]:
        nonlocal begun
        begun += 1
        async for piece in pieces(self, **options):
            yield piece
            if begun == 2:
                await asyncio.sleep(30)

    with monkeypatch.context() as process:
        process.setattr(export_run.ExportRun, "pieces", dying)
        work = asyncio.create_task(jobs.work())
        while begun < 2:
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    other = beside(app_server.services, files)
    assert not await other.work(), "the job is another's until that was not heard of for a while"
    await owner.execute("UPDATE exports SET heartbeat_at = now() - interval '2 minutes'")
    assert await other.work()
    manifest = await manifest_of(api, export_id)
    assert manifest["state"] == "complete"
    rows = await rows_of(api, manifest)
    assert len({row["span_id"] for row in rows}) == len(rows) == COUNT


async def test_a_job_that_cannot_read_fails_and_says_why(
    api: httpx.AsyncClient, jobs: ExportJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = await asked(api)

    def away(*_: Any, **__: Any) -> NoReturn:
        raise DatabaseUnavailable()

    monkeypatch.setattr(export_run.ExportRun, "pieces", away)
    assert await jobs.work()
    manifest = await manifest_of(api, export_id)
    assert (manifest["state"], manifest["problem"]) == ("failed", "database_unavailable")


async def test_a_cancelled_job_leaves_no_file(api: httpx.AsyncClient, jobs: ExportJobs, tmp_path: Path) -> None:
    export_id = await asked(api, format="ndjson")
    assert (await api.delete(f"{JOBS}/{export_id}")).json()["data"]["cancelled"] is True
    assert not await jobs.work()
    assert (await manifest_of(api, export_id))["state"] == "cancelled"
    done = await asked(api, format="ndjson")
    assert await jobs.work()
    assert list(tmp_path.glob("*/part-*"))
    assert (await api.delete(f"{JOBS}/{done}")).json()["data"]["cancelled"] is False
    assert not list(tmp_path.glob("*/part-*"))
    gone = await api.get(f"{JOBS}/{done}/files/part-00001.ndjson")
    assert gone.status_code == 404


async def test_what_has_expired_is_removed_with_its_files(
    api: httpx.AsyncClient, jobs: ExportJobs, owner: asyncpg.Connection, tmp_path: Path, bearer: Any
) -> None:
    export_id = await asked(api)
    await jobs.work()
    part = f"{JOBS}/{export_id}/files/part-00001.parquet"
    assert (await api.get(part)).status_code == 200
    await owner.execute("UPDATE exports SET expires_at = now() - interval '1 second'")
    stranger, banker = bearer("developer", ["alpha"], subject="somebody-else"), bearer("developer", ["beta"])
    for has_been_tidied in (False, True):
        if has_been_tidied:
            await jobs.tidy()
        for method, path in (("GET", f"{JOBS}/{export_id}"), ("GET", part), ("DELETE", f"{JOBS}/{export_id}")):
            gone = await api.request(method, path)
            assert (gone.status_code, gone.json()["code"]) == (410, "export_expired"), (method, path)
            for other in (stranger, banker):
                assert (await api.request(method, path, headers=other)).status_code == 404, "others learn nothing"
    assert not list(tmp_path.iterdir())
    assert (await api.get(JOBS)).json()["data"] == []
    assert await owner.fetchval("SELECT count(*) FROM exports") == 0, "nothing of the question is left"


async def test_an_expired_export_is_forgotten_after_a_month_or_with_its_project(
    api: httpx.AsyncClient, jobs: ExportJobs, owner: asyncpg.Connection
) -> None:
    old, of_deleted = await asked(api), await asked(api)
    while await jobs.work():
        pass
    await owner.execute("UPDATE exports SET expires_at = now() - interval '1 second'")
    await jobs.tidy()
    await owner.execute("UPDATE expired_exports SET expired_at = now() - interval '31 days' WHERE export_id = $1", old)
    await jobs.tidy()
    assert (await api.get(f"{JOBS}/{old}")).status_code == 404
    assert (await api.get(f"{JOBS}/{of_deleted}")).status_code == 410
    await owner.execute("UPDATE projects SET deleted_at = now()")
    await jobs.tidy()
    assert await owner.fetchval("SELECT count(*) FROM expired_exports") == 0


async def test_jobs_of_one_caller_are_few_and_belong_to_it_alone(
    api: httpx.AsyncClient, app_server: AppServer, jobs: ExportJobs, bearer: Any
) -> None:
    app_server.app.ctx.services.settings = replace(app_server.services.settings, export_jobs=1)
    export_id = await asked(api)
    assert (await api.post(JOBS, json={})).json()["code"] == "too_many_concurrent"
    other = bearer("developer", ["alpha"], subject="somebody-else")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/files/part-00001.parquet")):
        assert (await api.request(method, f"{JOBS}/{export_id}{path}", headers=other)).status_code == 404
    assert (await api.get(JOBS, headers=other)).json()["data"] == []
    namesake = bearer("developer", ["beta"])  # the operator gave another tenant a token of the same subject
    assert (await api.get(JOBS, headers=namesake)).json()["data"] == []
    assert (await api.post(JOBS, json={}, headers=namesake)).status_code == 202, "it has jobs of its own"
    assert len((await api.get(JOBS)).json()["data"]) == 1
    assert await jobs.work(), "what strangers tried changed nothing"


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"format": "xml"}, "/format"),
        ({"guard": "yes"}, "/guard"),
        ({"limit": 5}, "/limit"),
        ({"unknown": 1}, "/unknown"),
        ({"filter": {"field": "nope", "operator": "eq", "value": 1}}, "/filter/field"),
    ],
)
async def test_a_job_that_cannot_be_understood_is_refused_with_a_pointer(
    api: httpx.AsyncClient, document: dict[str, Any], pointer: str
) -> None:
    answer = await api.post(JOBS, json=document)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.fixture
def object_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket of a real S3 server in this process."""
    import boto3  # type: ignore[import-untyped]
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="exports")
    yield "s3://exports/of/a/team"
    server.stop()


async def test_jobs_write_to_object_storage(api: httpx.AsyncClient, app_server: AppServer, object_storage: str) -> None:
    services = app_server.services
    await services.exports.jobs.task.stop()
    files = open_files(replace(services.settings, export_url=object_storage))
    services.exports.files = files
    jobs = beside(services, files)
    export_id = await asked(api, format="parquet")
    assert await jobs.work()
    manifest = await manifest_of(api, export_id)
    assert manifest["state"] == "complete"
    assert len(await rows_of(api, manifest)) == COUNT
    assert (await api.delete(f"{JOBS}/{export_id}")).status_code == 200
    missing = await api.get(f"{JOBS}/{export_id}/files/manifest.json")
    assert missing.status_code == 404


async def queued(owner: asyncpg.Connection, export_id: str, project: str, created: int) -> None:
    """Queue a job of another project, created so many seconds ago."""
    await owner.execute(
        """
        INSERT INTO exports SELECT (jsonb_populate_record(e, jsonb_build_object(
            'export_id', $2::text, 'projects', to_jsonb(array[$3::text]), 'owner', $3::text,
            'created_at', now() - make_interval(secs => $4)))).* FROM exports AS e WHERE export_id = $1
        """,
        export_id, f"exp_{project.ljust(20, 'a')}", project, created,
    )  # fmt: skip


async def test_projects_take_turns_part_by_part(
    api: httpx.AsyncClient, jobs: ExportJobs, owner: asyncpg.Connection
) -> None:
    """A large job does not keep that of another project waiting to its end, however many jobs come before it."""
    first = await asked(api, format="ndjson")
    second = await asked(api, format="ndjson")
    await queued(owner, first, "gamma", 0)
    await jobs.work()
    states = {row["export_id"]: row for row in await owner.fetch("SELECT export_id, state, row_count FROM exports")}
    begun = states[first] if states[first]["row_count"] else states[second]
    assert begun["state"] == "queued", "it waits for its next turn"
    assert 0 < begun["row_count"] < COUNT
    assert states["exp_gammaaaaaaaaaaaaaaaa"]["row_count"] == 0
    await jobs.work()
    states = {row["export_id"]: row for row in await owner.fetch("SELECT export_id, state FROM exports")}
    assert states["exp_gammaaaaaaaaaaaaaaaa"]["state"] == "complete", "whose turn was next"
    while await jobs.work():
        pass
    for export_id in (first, second):
        manifest = await manifest_of(api, export_id)
        assert (manifest["state"], manifest["rows"]) == ("complete", COUNT)


async def test_jobs_asked_for_at_the_same_time_are_few_too(
    start_app: Any, api: httpx.AsyncClient, jobs: ExportJobs
) -> None:
    server = await start_app(export_jobs=2)
    await server.services.exports.jobs.task.stop()
    async with httpx.AsyncClient(base_url=server.base_url, headers=api.headers) as http:
        answers = await asyncio.gather(*(http.post(JOBS, json={}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] * 2 + [429] * 6


async def test_the_files_of_a_deleted_project_are_removed(
    api: httpx.AsyncClient, jobs: ExportJobs, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    done = await asked(api, format="ndjson")
    while await jobs.work():
        pass
    waiting = await asked(api, format="ndjson")
    assert (tmp_path / done / "manifest.json").exists()
    await owner.execute("UPDATE projects SET deleted_at = now() WHERE project_id = 'alpha'")
    await jobs.tidy()
    assert not (tmp_path / done).exists()
    assert await owner.fetchval("SELECT count(*) FROM exports WHERE export_id = ANY ($1)", [done, waiting]) == 0
    assert not await jobs.work()


async def test_a_file_that_does_not_fit_is_removed_and_the_job_fails(
    api: httpx.AsyncClient, jobs: ExportJobs, tmp_path: Path
) -> None:
    """A limit of the file size stands for a full disk: both refuse a part of the bytes, and again when it is closed."""
    export_id = await asked(api, format="ndjson")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert await jobs.work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    manifest = await manifest_of(api, export_id)
    assert (manifest["state"], manifest["problem"], manifest["files"]) == ("failed", "storage_failed", [])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    fits = await asked(api, format="ndjson")
    assert await jobs.work()
    assert (await manifest_of(api, fits))["state"] == "complete"
