"""What breaks around a service that runs: disks, files, databases and processes. It answers, says so and recovers."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from blemish.engines import RunsOn
from blemish.service import scorer as scorer_module
from blemish.service.feedback import Feedback
from blemish.service.models import Models, Served
from blemish.service.refused import Refused
from blemish.service.saying import say, say_traceback
from blemish.service.scorer import Scorer
from blemish.service.versions import Versions, version_of
from serving import Running, running

Troubled = tuple[Running, Path]


@pytest.fixture(scope="module")
def troubled(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """A service that keeps all images, and the folder of its model."""
    folder = tmp_path_factory.mktemp("troubled")
    source = folder / "parts.blemish"
    shutil.copytree(small, source)
    with running(folder, source, "--keep", "all", "--timeout", 20) as found:
        yield found, source


def judged(service: Running, image: bytes) -> str:
    """The id of a verdict."""
    (found,) = service.judge(image).json["results"]
    return str(found["id"])


def logged(service: Running, id: str) -> bool:
    answer = service.get("/v1/verdicts?limit=50")
    return answer.status == 200 and id in answer.body.decode()


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="needs limits on the size of files")
def test_a_full_disk_costs_what_is_kept_but_no_verdict_and_no_worker(troubled: Troubled, good_image: bytes) -> None:
    service, _ = troubled
    before = judged(service, good_image)
    service.until(lambda: logged(service, before))
    limit = service.process.rlimit(psutil.RLIMIT_FSIZE)
    service.process.rlimit(psutil.RLIMIT_FSIZE, (0, limit[1]))  # for a new worker too, which inherits it
    try:
        service.worker().kill()  # which is said where nothing can be written
        id = service.until(lambda: service.judge(good_image).status == 200 and judged(service, good_image))
        said = service.post("/v1/models/parts/feedback", {"id": id, "is": "good"})
        assert (said.status, "/" in said.error) == (503, False)
        assert service.get("/v1/verdicts?format=parquet").status in {200, 503}
        assert service.get("/readyz").status == 200
    finally:
        service.process.rlimit(psutil.RLIMIT_FSIZE, limit)
    assert service.post("/v1/models/parts/feedback", {"id": id, "is": "good"}).status == 200
    service.until(lambda: logged(service, id))


def test_a_copy_that_was_damaged_is_made_anew_when_the_worker_ends(troubled: Troubled, good_image: bytes) -> None:
    service, source = troubled
    graph = service.state / "versions" / "parts" / version_of(str(source)) / "scoring.bin"
    whole = graph.read_bytes()
    graph.write_bytes(b"cut short")
    service.worker().kill()
    service.until(lambda: service.judge(good_image).status == 200)
    assert graph.read_bytes() == whole
    assert service.get("/v1/models/parts").json["problem"] is None


def test_a_model_that_is_gone_altogether_is_said_until_it_is_back(troubled: Troubled, good_image: bytes) -> None:
    service, source = troubled
    away = source.with_name("away")
    source.rename(away)
    shutil.rmtree(service.state / "versions" / "parts")
    assert service.judge(good_image).status == 200  # it is in memory
    service.worker().kill()
    service.until(lambda: "loaded again" in (service.get("/v1/models/parts").json["problem"] or ""))
    assert service.get("/readyz").status == 503
    answer = service.judge(good_image)
    assert (answer.status, "/" in answer.error) == (503, False)
    assert "/" not in service.get("/v1/models/parts").json["problem"]
    away.rename(source)
    service.until(lambda: service.judge(good_image).status == 200)
    service.until(lambda: service.get("/readyz").status == 200)
    assert service.get("/v1/models/parts").json["problem"] is None


def test_another_detector_in_the_folder_takes_over_while_images_come(
    troubled: Troubled, saved: Path, small: Path, good_image: bytes
) -> None:
    service, source = troubled
    statuses: set[int] = set()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            statuses.add(service.judge(good_image).status)

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            shutil.rmtree(source)
            service.until(lambda: service.get("/v1/models/parts").json["problem"])
            shutil.copytree(saved, source)
            service.until(lambda: service.get("/v1/models/parts").json["detector"] == "fre")
            rolled = [
                pool.submit(service.post, f"/v1/models/parts/{what}") for what in ("rollback", "reload", "rollback")
            ]
            assert {one.result().status for one in rolled} <= {200, 409}
        finally:
            ended.set()
        for one in asking:
            one.result()
    assert statuses == {200}
    assert service.get("/v1/models/parts").json["problem"] is None


def test_a_log_that_is_no_database_any_more_costs_no_verdict(troubled: Troubled, good_image: bytes) -> None:
    service, _ = troubled
    file = service.state / "verdicts.sqlite"
    for kept in service.state.glob("verdicts.sqlite*"):
        kept.rename(service.state / f"away-{kept.name}")
    file.write_bytes(b"none of SQLite's" * 1000)
    id = judged(service, good_image)
    for path in ("/v1/verdicts", "/v1/verdicts?format=csv", "/v1/models/parts/day?date=2026-01-31"):
        service.until(lambda path=path: service.get(path).status == 503)
        assert "/" not in service.get(path).error
    assert service.post("/v1/models/parts/feedback", {"id": "0" * 32, "is": "good"}).status in {404, 503}
    file.unlink()
    for kept in service.state.glob("away-*"):
        kept.rename(service.state / kept.name.removeprefix("away-"))
    service.until(lambda: logged(service, id), 40)


def test_a_kept_image_that_cannot_be_read_is_no_error_of_the_service(troubled: Troubled) -> None:
    service, _ = troubled
    (service.state / "images" / f"{'0' * 31}1.image").mkdir()
    answer = service.get(f"/v1/verdicts/{'0' * 31}1/image")
    assert (answer.status, "/" in answer.error) == (503, False)


def test_two_words_on_one_image_at_a_time_keep_it_once(troubled: Troubled, good_image: bytes) -> None:
    service, _ = troubled
    id = judged(service, good_image)
    waiting = service.get("/v1/models/parts").json["waiting"]
    words = [{"id": id, "is": said} for said in ("good", "anomalous") * 15]
    with ThreadPoolExecutor(8) as pool:
        assert {
            one.status for one in pool.map(lambda said: service.post("/v1/models/parts/feedback", said), words)
        } == {200}
    assert sum(service.get("/v1/models/parts").json["waiting"].values()) == sum(waiting.values()) + 1


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "no space")


def test_what_cannot_be_printed_stops_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    say("a\x1b[2Jb\nc" + "d" * 1000)
    told = capsys.readouterr().err
    assert told.startswith("blemish: a [2Jb cd")
    assert (told.count("\n"), len(told) < 600) == (1, True)
    monkeypatch.setattr(sys, "stderr", Full())
    say("nobody hears it")
    say_traceback()
    with pytest.raises(OSError, match="no space"):
        print("as it is", file=sys.stderr)


def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        scorer = Scorer(1000, RunsOn("auto", "auto"), 4, 5.0)
        await scorer.start()
        first = scorer.process
        assert first is not None
        real, refusals = asyncio.create_subprocess_exec, [OSError(12, "no memory")] * 2

        async def start(*words: Any, **options: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return await real(*words, **options)

        monkeypatch.setattr(scorer_module.asyncio, "create_subprocess_exec", start)
        first.kill()
        while not (scorer.is_ready and scorer.process is not first):
            await asyncio.sleep(0.02)
        assert await scorer.ping(10)
        assert not refusals
        await scorer.stop()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_learns_ends_with_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    async def run() -> None:
        scorer = Scorer(1000, RunsOn("auto", "auto"), 4, 5.0)
        feedback = Feedback(tmp_path, Models(scorer, Versions(tmp_path / "versions"), {}, {}))
        learning = asyncio.create_task(feedback._learn(Served("parts", ""), tmp_path, tmp_path / "learned"))
        while not feedback._learning:
            await asyncio.sleep(0.02)
        feedback.stop()
        with pytest.raises(Refused, match="nothing was learned"):
            await learning

    asyncio.run(asyncio.wait_for(run(), 30))
