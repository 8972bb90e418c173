"""Models elsewhere: saved, loaded and replaced as here, never half; and all once with a server of S3's kind."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

import blemish
from blemish.datasets import read_source
from blemish.errors import ModelError, StorageError
from blemish.fitting.refit import check_images
from blemish.storage import check_free
from blemish.storage import check_free_file as new_file_at
from blemish.storage.place import Place
from command import inside
from conftest import write_parts
from elsewhere import Watched, put, refusing

SAVED = [
    "features.bin",
    "features.xml",
    "inside.safetensors",
    "learned.safetensors",
    "model.json",
    "scoring.bin",
    "scoring.xml",
]


def names(url: str) -> list[str]:
    system, path = fsspec.core.url_to_fs(url)
    return sorted(name.rpartition("/")[2] for name in system.find(path))


def scores(model: blemish.Model, source: str | Path) -> list[float]:
    return [prediction.score for prediction in model.predict(source)]


def test_a_model_elsewhere_is_the_model(model: blemish.Model, tree: Path) -> None:
    url = "watched://models/same"
    model.save(url)
    assert names(url) == SAVED
    loaded = blemish.load(url)
    assert scores(loaded, tree) == scores(model, tree)
    assert loaded.explain(tree / "test" / "scratch" / "000.png").score > 0, "what was learned is read later"
    loaded.save("watched://models/again")
    assert names("watched://models/again") == SAVED


def test_a_fit_elsewhere_is_the_fit(tree: Path) -> None:
    url = put(tree, "watched://models/parts")
    here = blemish.fit(tree, size=64, detector="gaussian")
    there = blemish.fit(url, size=64, detector="gaussian")
    assert there.calibration.scores.tolist() == here.calibration.scores.tolist()
    assert there.calibration.names == here.calibration.names
    assert there.provenance.images_digest == here.provenance.images_digest
    check_images(here, read_source(url))
    first = next(iter(there.predict(f"{url}/train/good/000.png")))
    assert first.is_known
    assert first.as_dict()["path"] == f"{url}/train/good/000.png"


def test_a_model_elsewhere_learns_more_in_its_place(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, more = "watched://models/grown", put(write_parts(tmp_path / "more", 3, seed=7), "watched://models/more")
    blemish.fit(tree, size=64, detector="gaussian").save(model)
    done = inside(capsys, "update", model, more)
    assert done.returncode == 0, done.stderr
    assert "learned from 3 new images, 27 in all" in done.stdout
    grown = blemish.load(model)
    here = blemish.fit(tree, size=64, detector="gaussian").update(tmp_path / "more")
    assert scores(grown, tree) == scores(here, tree)
    assert all(prediction.is_known for prediction in grown.predict(more))


def test_nothing_is_loaded_that_is_not_whole(model: blemish.Model) -> None:
    url = "watched://models/broken"
    model.save(url)
    with Watched().open(f"{url}/features.bin", "r+b") as file:
        file.seek(100)
        file.write(b"\1")
    with pytest.raises(ModelError, match=f"{url}/features.bin: was altered or cut short") as caught:
        blemish.load(url)
    assert ".blemish-" not in str(caught.value), "the address is told, not the copy"
    Watched().rm_file("/models/broken/scoring.xml")
    with pytest.raises(ModelError, match=f"{url}: is incomplete, scoring.xml is missing"):
        blemish.load(url)
    Watched().rm_file("/models/broken/model.json")
    with pytest.raises(ModelError, match=f"{url}: holds no model.json, so it is not a model, or not whole"):
        blemish.load(url)
    with pytest.raises(ModelError, match="watched://models/none: no such model"):
        blemish.load("watched://models/none")


def test_a_card_of_another_making_is_refused(model: blemish.Model) -> None:
    url = "watched://models/card"
    model.save(url)
    system = Watched()
    card = system.cat_file(f"{url}/model.json")
    system.pipe_file(f"{url}/model.json", card.replace(b"features.bin", b"../../etc/a"))
    with pytest.raises(ModelError, match="was altered after it was written"):
        blemish.load(url)


@pytest.mark.parametrize("file", ["scoring.xml", "model.json"])
def test_a_model_whose_copying_fails_leaves_nothing(model: blemish.Model, file: str) -> None:
    url = f"watched://models/failed-{file}"
    with refusing(file, ConnectionError("reset")), pytest.raises(StorageError, match=f"{file}: cannot be reached"):
        model.save(url)
    assert names(url) == []


def test_an_address_that_became_a_path_makes_no_folder_of_its_name(
    model: blemish.Model, saved: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="s3:/bucket/model: looks like an address; give it as text"):
        blemish.load(Path("s3://bucket/model"))  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="looks like an address"):
        model.save(Path("s3://bucket/model"))
    with pytest.raises(StorageError, match="other files are written on this machine only"):
        new_file_at(Path("s3://bucket/report.html"))
    assert not list(tmp_path.iterdir())


def test_the_card_is_copied_last(model: blemish.Model) -> None:
    url = "watched://models/last"
    seen: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        before = Watched.put_file

        def watch(self: Watched, lpath: str, rpath: str, **options: object) -> None:
            seen.append(names(url))
            before(self, lpath, rpath, **options)

        patch.setattr(Watched, "put_file", watch)
        model.save(url)
        model.save(url, force=True)
    assert len(seen) == 2 * len(SAVED)
    assert not any("model.json" in found for found in seen)


def test_only_a_model_that_nobody_changed_is_replaced(model: blemish.Model) -> None:
    url = "watched://models/replaced"
    model.save(url)
    with pytest.raises(StorageError, match="exists already"):
        model.save(url)
    model.save(url, force=True)
    assert names(url) == SAVED
    system = Watched()
    system.pipe_file(f"{url}/notes.txt", b"mine")
    with pytest.raises(StorageError, match="holds notes.txt, which blemish did not write"):
        model.save(url, force=True)
    system.rm_file("/models/replaced/notes.txt")
    system.pipe_file(f"{url}/scoring.xml", b"mine")
    with pytest.raises(StorageError, match="scoring.xml was changed after blemish wrote it"):
        model.save(url, force=True)
    system.pipe_file("/models/other/notes.txt", b"mine")
    with pytest.raises(StorageError, match="holds no model.json, so it is not replaced"):
        model.save("watched://models/other", force=True)


def test_an_address_may_end_with_a_slash(s3: str, model: blemish.Model) -> None:
    url = f"{s3}/models/slash.blemish"
    model.save(f"{url}/")
    blemish.load(url).save(f"{url}//", force=True)
    assert names(url) == SAVED
    assert blemish.load(f"{url}/").calibration.threshold == model.calibration.threshold
    place = Place(f"{s3}/results-slash/")
    place.write("a/b.txt", b"x")
    assert (place.names(), place.names("a"), place.read("a/b.txt", 9)) == (["a/"], ["b.txt"], b"x")
    assert names(f"{s3}/results-slash") == ["b.txt"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://host/parts.blemish", "nothing can be written to a web address"),
        ("https://me:secret@host/parts.blemish", "addresses are printed and kept"),
        ("watched://models//parts.blemish", "a folder without a name"),
        ("simplecache::watched://models/parts.blemish", "several addresses in one"),
    ],
)
def test_where_no_model_can_be_written_is_told_before_the_fit(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        check_free(url, "model")
    assert "secret" not in str(caught.value)


def test_from_images_to_verdicts_on_a_server_of_s3s_kind(
    s3: str,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, model = put(tree, f"{s3}/tree"), f"{s3}/models/parts.blemish"
    done = inside(capsys, "fit", source, "-o", model, "--size", "64", "--detector", "gaussian")
    assert done.returncode == 0, done.stderr
    assert "saved to s3://parts/models/parts.blemish" in done.stdout
    assert names(model) == SAVED
    done = inside(capsys, "predict", model, source, "--out", f"{s3}/results")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{source}/test/") == 10
    assert "results.jsonl" in names(f"{s3}/results")
    assert len(names(f"{s3}/results")) == 12
    for source, words in (("s3://no-such-bucket", "does not exist"), (f"{s3}/nothing", "does not exist")):
        done = inside(capsys, "predict", model, source)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: s3://")
    card = fsspec.filesystem("s3").cat_file(f"{model}/model.json")
    assert b"testing-secret" not in card
    assert b"testing-key" not in card


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(ModelError, match="s3://parts/m: cannot be reached") as caught:
        blemish.load("s3://parts/m")
    assert "\n" not in str(caught.value)
    S3FileSystem.clear_instance_cache()
