"""Small parts of the service: what waits, what is remembered, names, and versions on the disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemish.errors import ModelError, SettingError, StorageError
from blemish.log import new_id
from blemish.service.bodies import Budget, plain_name
from blemish.service.keeping import Keeping
from blemish.service.metrics import drift_of
from blemish.service.models import Served
from blemish.service.recent import Picture, Recent
from blemish.service.refused import Refused
from blemish.service.versions import Active, Versions, named, version_of
from blemish.service.waiting import BATCH, ENOUGH, MOST_SHADOWS, Job, Waiting


def job(model: Any, do: str = "judge") -> Job:
    return Job({"do": do}, b"", model)


def test_images_for_one_model_are_taken_together_in_their_order() -> None:
    one, other = SimpleNamespace(), SimpleNamespace()
    waiting = Waiting()
    jobs = [job(one if index % 3 else other) for index in range(9)]
    for each in jobs:
        waiting.put(each)
    with waiting.take() as (what, taken):
        assert (what, taken) == ("judge", jobs[0::3])
    with waiting.take() as (_, taken):
        assert taken == [each for each in jobs if each.model is one]


def test_while_some_are_judged_few_wait_and_many_are_taken() -> None:
    model, waiting = SimpleNamespace(), Waiting()
    waiting.put(job(model))
    with waiting.take():
        waiting.put(job(model))
        assert waiting._next() is None
        for _ in range(ENOUGH + BATCH - 1):
            waiting.put(job(model))
        with waiting.take() as (_, taken):
            assert len(taken) == BATCH
    with waiting.take() as (_, taken):
        assert len(taken) == ENOUGH


def test_verdicts_come_before_pictures_and_pictures_before_shadows() -> None:
    model, waiting = SimpleNamespace(), Waiting()
    assert all(waiting.put_shadow(job(model)) for _ in range(MOST_SHADOWS))
    assert not waiting.put_shadow(job(model))
    waiting.put(job(model, "draw"))
    waiting.put(job(model))
    with waiting.take() as (first, _):
        assert first == "judge"
    with waiting.take() as (second, _):
        assert second == "draw"
        assert waiting._next() is None
        waiting.put(job(model))
        with waiting.take() as (third, _):
            assert third == "judge"
    with waiting.take() as (fourth, _):
        assert fourth == "shadow"


def test_the_latest_images_of_each_model_are_kept_within_the_bytes() -> None:
    recent = Recent(latest=3, most_bytes=100)
    for index in range(5):
        recent.put(f"a{index}", Picture("a", "a@1", bytes(10)))
    recent.put("b0", Picture("b", "b@1", bytes(10)))
    assert [recent.get(f"a{index}") is not None for index in range(5)] == [False, False, True, True, True]
    recent.put("b1", Picture("b", "b@1", bytes(75)))
    assert [recent.get(id) is not None for id in ("a2", "a3", "a4", "b0", "b1")] == [False, False, True, True, True]
    recent.put("b2", Picture("b", "b@1", bytes(500)))
    assert recent.get("b2") is not None
    assert recent.get("b1") is None


def test_bodies_share_their_bytes_and_one_alone_may_have_more() -> None:
    budget = Budget(100)
    with budget.share() as take:
        take(60)
        take(90)
        with budget.share() as other, pytest.raises(Refused) as refused:
            other(10)
        assert refused.value.status == 503
    assert budget.taken == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.bmp", "y.bmp"),
        ("..", None),
        ("", None),
        ("a/", None),
        ("a\0b\n\x1b[31m.png", "ab[31m.png"),
        ("ü" * 300, "ü" * 255),
        ("<script>", "<script>"),
    ],
)
def test_a_name_is_its_last_part_without_what_cannot_be_printed(given: str, kept: str | None) -> None:
    assert plain_name(given) == kept


@pytest.mark.parametrize(
    ("given", "name", "source"),
    [
        ("cells.blemish", "cells", "cells.blemish"),
        ("/models/cells.blemish/", "cells", "/models/cells.blemish/"),
        ("left=/models/a=b", "left", "/models/a=b"),
        ("s3://bucket/cells.blemish", "cells", "s3://bucket/cells.blemish"),
    ],
)
def test_a_model_is_named_by_its_folder_or_by_a_word(given: str, name: str, source: str) -> None:
    assert named(given) == (name, source)


@pytest.mark.parametrize("given", ["", "/", "a b", "..", "ä.blemish", "x" * 65, "a/b=c d"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(given: str) -> None:
    with pytest.raises(SettingError, match="NAME="):
        named(given)


def test_a_version_is_copied_once_and_again_if_the_copy_is_damaged(small: Path, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "versions")
    version = versions.adopt("parts", str(small))
    assert version == version_of(str(small))
    copy = versions.path("parts", version)
    before = copy.stat().st_ino
    assert versions.adopt("parts", str(small)) == version
    assert copy.stat().st_ino == before
    (copy / "scoring.bin").write_bytes(b"")
    versions.adopt("parts", str(small))
    assert (copy / "scoring.bin").read_bytes() == (small / "scoring.bin").read_bytes()


def test_what_is_no_model_is_not_copied(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "versions")
    with pytest.raises(ModelError):
        versions.adopt("parts", str(tmp_path))
    assert not (tmp_path / "versions" / "parts").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"parts": 1}', '{"parts": {"version": "../..", "previous": null, "seen": "0"}}', "[" * 100_000],
)
def test_a_damaged_note_of_what_is_active_counts_as_absent(tmp_path: Path, content: str) -> None:
    (tmp_path / "active.json").write_text(content)
    assert Versions(tmp_path / "versions").active("parts") is None


def test_what_is_active_is_noted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(tmp_path / "versions")
    (versions.path("parts", "0" * 12)).mkdir(parents=True)
    (versions.path("parts", "0" * 12) / "model.json").touch()
    active = Active("0" * 12, None, "1" * 12)
    versions.remember("parts", active)
    assert Versions(tmp_path / "versions").active("parts") == active
    before = (tmp_path / "active.json").read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no space"):
        versions.remember("parts", Active("0" * 12, None, "2" * 12))
    assert (tmp_path / "active.json").read_text() == before
    assert json.loads(before)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_disk_that_takes_nothing_delays_nobody_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    keeping, go = Keeping(), threading.Event()

    def full() -> None:
        raise OSError(28, f"{new_id()}.image: no space left on the disk")

    keeping.put(lambda: print(end="" if go.wait(10) else "too late"))
    for _ in range(100):
        keeping.put(full)
    assert keeping.dropped >= 35
    go.set()
    keeping.close()
    assert keeping.dropped == 100
    assert capsys.readouterr().err.count("\n") == 1


def test_drift_is_seen_in_the_latest_p_values() -> None:
    served = Served("parts", "")
    served.details = {"scores": [float(score) for score in range(99)], "two_sided": False}
    assert drift_of([], served) == {"martingale_log10": None, "alarm": False, "images": 0}
    even = np.random.default_rng(0).permutation(np.arange(1, 101) / 100).tolist()
    assert not drift_of(even, served)["alarm"]
    assert drift_of([0.01] * 100, served)["alarm"]
