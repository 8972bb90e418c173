"""Models are swapped while requests run, rolled back, accompanied by a shadow, and learn from what persons say."""

from __future__ import annotations

import io
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import blemish
from blemish.service.versions import version_of
from serving import Running, multipart, running

Guarded = tuple[Running, Path]


def replaced(source: Path, by: Path) -> str:
    """Replaces a model's folder as `Model.save` does; returns the version of the new one."""
    blemish.load(str(by)).save(source, force=True)
    return version_of(str(source))


def model(service: Running) -> dict[str, object]:
    found: dict[str, object] = service.get("/v1/models/cells").json
    return found


def test_a_model_tells_what_it_is_and_its_scores(guarded: Guarded) -> None:
    service, source = guarded
    found, own = model(service), blemish.load(str(source))
    assert found["scores"] == own.calibration.scores.tolist()
    assert (found["threshold"], found["display"]) == (own.threshold, list(own.calibration.display))
    assert (found["name"], found["version"]) == ("cells", version_of(str(source)))
    assert (found["shadow"]["name"], found["previous"], found["problem"]) == ("second", None, None)
    (listed,) = service.get("/v1/models").json["models"]
    assert listed == {key: value for key, value in found.items() if key != "scores"}
    assert service.get("/v1/models/second").status == 404


def test_a_shadow_never_decides_and_is_logged(guarded: Guarded, saved: Path, defect_image: bytes) -> None:
    service, _ = guarded
    (now,) = service.judge(defect_image, "?shadow=wait", "cells").json["results"]
    (expected,) = blemish.load(str(saved)).predict(defect_image)
    assert now["shadow"]["score"] == pytest.approx(expected.score, rel=1e-4)
    (later,) = service.judge(defect_image, "", "cells").json["results"]
    assert (later["shadow"], later["score"]) == (None, pytest.approx(now["score"]))

    def rows() -> list[dict[str, object]]:
        found = service.get("/v1/verdicts?role=shadow&limit=50").json["verdicts"]
        return [row for row in found if row["request"] in {now["id"], later["id"]}]

    first, second = service.until(lambda: len(rows()) == 2 and rows())
    assert first["model"] == second["model"] == "second"
    assert service.metric("blemish_shadow_verdicts_total") >= 2


def test_a_replaced_model_is_served_without_a_lost_request(guarded: Guarded, other: Path, good_image: bytes) -> None:
    service, source = guarded
    before = model(service)["version"]
    seen: list[tuple[int, str]] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answer = service.judge(good_image, "", "cells")
            seen.append((answer.status, answer.json["version"]))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            version = replaced(source, other)
            service.until(lambda: seen and seen[-1][1] == version)
        finally:
            ended.set()
        for one in asking:
            one.result()
    assert {status for status, _ in seen} == {200}
    assert {found for _, found in seen} == {before, version}
    assert (model(service)["version"], model(service)["previous"]) == (version, before)


def test_a_rollback_goes_back_and_forth_and_is_not_undone_by_the_folder(guarded: Guarded, good_image: bytes) -> None:
    service, source = guarded
    new, old = model(service)["version"], model(service)["previous"]
    told = service.post("/v1/models/cells/rollback").json
    assert (told["version"], told["previous"]) == (old, new)
    assert service.judge(good_image, "", "cells").json["version"] == old
    (source / "model.json").touch()
    assert json.loads((service.state / "active.json").read_text())["cells"]["version"] == old
    assert service.post("/v1/models/cells/reload").json["version"] == new


def test_a_half_copied_or_damaged_model_is_said_and_the_old_one_goes_on(
    guarded: Guarded, small: Path, good_image: bytes
) -> None:
    service, source = guarded
    before = model(service)["version"]
    shutil.rmtree(source)
    source.mkdir()
    files = sorted(small.iterdir(), key=lambda file: file.name != "model.json")  # the card first, as a copy may do
    shutil.copyfile(files[0], source / files[0].name)
    problem = service.until(lambda: model(service)["problem"])
    assert "incomplete" in problem
    assert "/" not in problem
    service.until(lambda: f"cells: {problem}" in service.told.read_text())
    assert service.metric("blemish_model_problem") == 1
    for file in files[1:]:
        shutil.copyfile(file, source / file.name)
    (source / "scoring.bin").write_bytes(b"cut short")
    service.until(lambda: "scoring.bin" in (model(service)["problem"] or ""))
    answer = service.post("/v1/models/cells/reload")
    assert answer.status == 409
    assert "stays in use" in answer.error
    assert (service.judge(good_image, "", "cells").json["version"], model(service)["version"]) == (before, before)
    shutil.copyfile(small / "scoring.bin", source / "scoring.bin")
    service.until(lambda: model(service)["version"] == version_of(str(small)))
    assert model(service)["problem"] is None


def test_what_is_logged_can_be_found_filtered_and_exported(
    guarded: Guarded, defect_image: bytes, good_image: bytes
) -> None:
    service, _ = guarded
    body, headers = multipart(("=bad.png", defect_image), ("good.png", good_image), ("none.png", b"none"))
    answer = service.ask("POST", "/v1/models/cells/predict", body, headers)
    ids = [result["id"] for result in answer.json["results"]]

    def rows(query: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = service.get(f"/v1/verdicts?limit=1000&role=decides{query}").json["verdicts"]
        return found

    found = service.until(lambda: [row for row in rows("") if row["id"] in ids][2:] and rows(""))
    by_id = {row["id"]: row for row in found}
    bad, fine, none = (by_id[id] for id in ids)
    assert (bad["name"], bad["is_anomaly"], fine["is_anomaly"], none["is_anomaly"]) == ("=bad.png", True, False, None)
    assert (bad["score"], bad["version"]) == (answer.json["results"][0]["score"], answer.json["version"])
    assert bad["digest"]
    assert "not an image" in none["error"]
    assert {row["id"] for row in rows("&is_anomaly=true")} >= {ids[0]}
    assert not rows("&until=2020-01-01T00:00:00Z")
    assert not rows("&model=none")
    first = service.get("/v1/verdicts?limit=1").json
    second = service.get(f"/v1/verdicts?limit=1&after={first['next']}").json
    assert first["verdicts"][0]["id"] != second["verdicts"][0]["id"]
    told = service.get("/v1/verdicts?format=csv")
    assert told.headers["content-type"].startswith("text/csv")
    assert ids[0] in told.body.decode()
    assert "'=bad.png" in told.body.decode()
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(service.get("/v1/verdicts?format=parquet&role=decides").body))
    assert set(ids) <= set(table["id"].to_pylist())


@pytest.mark.parametrize(
    "query", ["since=x", "limit=0", "limit=1001", "limit=x", "after=x", "role=x", "format=x", "model=%00", "model=a'b"]
)
def test_a_query_that_is_none_is_refused(guarded: Guarded, query: str) -> None:
    answer = guarded[0].get(f"/v1/verdicts?{query}")
    assert (answer.status, bool(answer.error)) == (422, True)


def test_pictures_of_a_verdict_are_there_and_small_ones_are_small(guarded: Guarded, defect_image: bytes) -> None:
    service, _ = guarded
    (found,) = service.judge(defect_image, "", "cells").json["results"]
    for what, kind, size in (("image", "PNG", 96), ("overlay", "PNG", 64), ("thumbnail", "JPEG", 160)):
        answer = service.get(f"/v1/verdicts/{found['id']}/{what}")
        picture = Image.open(io.BytesIO(answer.body))
        assert (answer.status, answer.headers["content-type"]) == (200, f"image/{kind.lower()}")
        assert picture.format == kind
        assert max(picture.size) <= size
    kept = service.state / "images"
    service.until(lambda: sum(found["id"] in file.name for file in kept.iterdir()) == 2)
    assert service.get(f"/v1/verdicts/{'0' * 32}/image").status == 404
    service.judge(b"not an image", "", "cells")
    unread = service.until(
        lambda: [row for row in service.get("/v1/verdicts?limit=5").json["verdicts"] if row["error"] is not None]
    )[0]
    assert service.get(f"/v1/verdicts/{unread['id']}/image").status == 410
    day = service.get(f"/v1/models/cells/day?date={unread['time'][:10]}").json
    assert day["unreadable"] >= 1
    assert service.get("/v1/verdicts/..%2f..%2factive/image").status in {404, 422}


def test_a_day_has_its_images_and_no_drift_yet(guarded: Guarded, good_image: bytes) -> None:
    service, _ = guarded
    (found,) = service.judge(good_image, "", "cells").json["results"]
    moment = service.until(lambda: service.get("/v1/verdicts?role=decides&limit=1").json["verdicts"])[0]["time"]
    service.until(lambda: found["id"] in service.get("/v1/verdicts?limit=20").body.decode())
    day = service.get(f"/v1/models/cells/day?date={moment[:10]}").json
    assert sum(bucket["count"] for bucket in day["buckets"]) >= 1
    assert all(bucket["lowest"] <= bucket["median"] <= bucket["highest"] for bucket in day["buckets"])
    assert (day["drift"]["alarm"], day["drift"]["images"] >= 1) == (False, True)
    assert service.get("/v1/models/cells/day?date=1999-01-01").json["buckets"] == []
    told = service.get("/v1/models/cells/day?date=2026-13-01")
    assert (told.status, told.error) == (422, "date '2026-13-01' is not a date; give YYYY-MM-DD")
    for query in (
        "",
        "?date=x",
        "?date=20260131",
        "?date=2026-01-31&tz_offset=9999",
        "?date=0001-01-01&tz_offset=1440",
    ):
        assert service.get(f"/v1/models/cells/day{query}").status == 422
    for name in ("blemish_drift_martingale_log10", "blemish_model_info", "blemish_log_connected"):
        assert name in service.get("/metrics").body.decode()


def test_a_model_learns_from_what_was_marked_good_and_each_rollback_exchanges_what_waits(
    guarded: Guarded, tree: Path
) -> None:
    service, _ = guarded
    ids = []
    for number in range(3):
        image = (tree / "test" / "good" / f"{number:03d}.png").read_bytes()
        ids.append(service.judge(image, "", "cells").json["results"][0]["id"])
    assert (
        service.post("/v1/models/cells/feedback", {"id": ids[0], "is": "anomalous"}).json["waiting"]["anomalous"] == 1
    )
    for id in ids:
        told = service.post("/v1/models/cells/feedback", {"id": id, "is": "good"}).json
    assert told == {"waiting": {"good": 3, "anomalous": 0}}
    before = model(service)
    assert before["waiting"] == {"good": 3, "anomalous": 0}
    answer = service.post("/v1/models/cells/update")
    assert answer.status == 200, answer.body
    assert (answer.json["previous"], answer.json["images"]) == (before["version"], before["images"] + 3)
    assert answer.json["waiting"]["good"] == 0
    assert service.post("/v1/models/cells/update").status == 409
    learned = answer.json["version"]
    assert service.post("/v1/models/cells/rollback").json["waiting"]["good"] == 3
    forth = service.post("/v1/models/cells/rollback").json
    assert (forth["version"], forth["waiting"]["good"]) == (learned, 0)
    service.post("/v1/models/cells/feedback", {"id": ids[0], "is": "good"})
    again = service.post("/v1/models/cells/update")
    assert (again.status, "learned" in again.error) == (409, True)
    assert (model(service)["version"], model(service)["waiting"]["good"]) == (learned, 0)
    assert service.post("/v1/models/cells/rollback").json["waiting"]["good"] == 3
    said = service.told.read_text()
    assert f"cells: it has learned; version {learned} replaces {before['version']}" in said
    assert f"cells: rolled back; version {before['version']} replaces {learned}" in said
    row = service.until(lambda: service.get("/v1/verdicts?feedback=good").json["verdicts"])[0]
    assert row["id"] in ids


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        (
            "POST",
            "predict?falsealarmrate=1",
            "unknown parameter 'falsealarmrate'; give map, false_alarm_rate or shadow",
        ),
        ("GET", "day?date=2026-01-31&tz=60", "unknown parameter 'tz'; give date or tz_offset"),
        ("POST", "rollback?to=1", "unknown parameter 'to'; this address takes none"),
    ],
)
def test_a_parameter_that_an_address_does_not_take_is_said(
    guarded: Guarded, good_image: bytes, method: str, path: str, wanted: str
) -> None:
    told = guarded[0].ask(method, f"/v1/models/cells/{path}", good_image if method == "POST" else None)
    assert (told.status, told.error) == (422, wanted)


def test_json_of_another_content_type_is_told_which_to_send(guarded: Guarded) -> None:
    told = guarded[0].post("/v1/models/cells/feedback", {"id": "0" * 32}, **{"Content-Type": "text/plain"})
    assert (told.status, "send Content-Type: application/json" in told.error) == (422, True)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"id": "0" * 32, "is": "good"}, 404),
        ({"id": "../x", "is": "good"}, 422),
        ({"id": "0" * 32, "is": "fine"}, 422),
        ({"is": "good"}, 422),
        ([], 422),
        ({"id": "0" * 70_000, "is": "good"}, 413),
    ],
)
def test_feedback_of_no_image_is_refused(guarded: Guarded, content: object, status: int) -> None:
    answer = guarded[0].post("/v1/models/cells/feedback", content)
    assert (answer.status, bool(answer.error)) == (status, True)


def test_a_rollback_survives_a_restart_but_not_a_new_model(
    small: Path, other: Path, good_image: bytes, tmp_path: Path
) -> None:
    source = tmp_path / "cells.blemish"
    shutil.copytree(small, source)
    with running(tmp_path, source) as service:
        replaced(source, other)
        old = service.post("/v1/models/cells/reload").json["previous"]
        assert service.post("/v1/models/cells/rollback").json["version"] == old
    shutil.rmtree(source)
    with running(tmp_path, source) as service:
        told = service.get("/v1/models/cells").json
        assert (told["version"], "no such model" in told["problem"]) == (old, True)
        shutil.copytree(other, source)
        assert service.judge(good_image, "", "cells").json["version"] == old


def test_a_state_that_takes_nothing_costs_copies_and_kept_images_but_no_verdict(
    small: Path, good_image: bytes, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    for name in ("versions", "images", "waiting"):
        (tmp_path / "state" / name).touch()  # no folder can be made there
    with running(tmp_path, small, "--keep", "all") as service:
        answer = service.judge(good_image)
        assert answer.status == 200
        assert "no copy is kept" in service.get("/v1/models/parts").json["problem"]
        said = service.post("/v1/models/parts/feedback", {"id": answer.json["results"][0]["id"], "is": "good"})
        assert (said.status, "/" in said.error) == (503, False)
        assert "images are not kept" in service.told.read_text()
        service.worker().kill()
        service.until(lambda: service.judge(good_image).status == 200)
