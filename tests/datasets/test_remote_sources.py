"""Sources elsewhere: the layouts that they have on this machine."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.core import url_to_fs

from blemish.datasets import Sample, read_source
from blemish.datasets.check import check_source
from blemish.errors import MissingExtraError, SourceError, StorageError
from blemish.images import Remote
from blemish.storage.remote import files_below
from conftest import write_parts
from elsewhere import put, refusing


@pytest.fixture(scope="module")
def there(tree: Path) -> str:
    """The small tree, elsewhere."""
    return put(tree, "watched://sources/parts")


def moved(samples: list[Sample], root: Path, url: str) -> list[tuple[str, str, str | None]]:
    """What samples here would be at an address."""

    def name(path: object) -> str:
        return str(path).replace(str(root), url)

    return [(name(sample.path), sample.kind, sample.mask and name(sample.mask)) for sample in samples]


@pytest.mark.parametrize("layout", ["", "tree:", "folder:"])
def test_a_source_elsewhere_has_the_samples_and_the_order_that_it_has_here(tree: Path, there: str, layout: str) -> None:
    here, found = read_source(f"{layout}{tree}"), read_source(f"{layout}{there}")
    assert moved(found.train, tree, there) == moved(here.train, tree, there)
    assert moved(found.test, tree, there) == moved(here.test, tree, there)
    assert (found.layout, found.has_masks, found.root) == (here.layout, here.has_masks, f"{layout}{there}")
    first = found.train[0].path
    assert isinstance(first, Remote)
    assert first.size == (tree / "train" / "good" / "000.png").stat().st_size or layout == "folder:"


def test_one_image_and_a_folder_with_a_dot_file_and_others(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "few", 2)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    url = put(folder, "watched://sources/few")
    assert [str(sample.path) for sample in read_source(f"{url}/").train] == [f"{url}/000.png", f"{url}/001.png"]
    (sample,) = read_source(f"{url}/001.png").train
    assert str(sample.path) == f"{url}/001.png"


def test_a_mark_that_stands_for_a_folder_in_a_bucket_is_no_image(s3: str) -> None:
    system, path = url_to_fs(s3)
    for name in ("marked/", "marked/0.png", "marked/sub.png/"):
        system.call_s3("put_object", Bucket=path, Key=name, Body=b"")
    assert files_below(f"{s3}/marked") == {"0.png": 0}
    assert files_below(f"{s3}//marked") == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("watched://sources/nothing", "does not exist"),
        ("watched://sources/few-notes", "no images in this folder"),
        ("watched://sources/few-notes/notes.txt", "not an image"),
        ("watched://sources/badtree", "no images in train/good"),
        ("watched://sources/maskless", "has no mask; expected watched://sources/maskless/ground_truth/dent/1_mask.png"),
        ("mtd:watched://sources/parts", "mtd reads folders of this machine only"),
        ("one_class:watched://sources/parts:3", "one_class reads folders of this machine only"),
    ],
)
def test_what_is_wrong_with_a_source_is_told_in_one_line(source: str, words: str) -> None:
    system, _ = url_to_fs("watched://")
    system.pipe_file("/sources/few-notes/notes.txt", b"x")
    system.pipe_file("/sources/badtree/train/bad/1.png", b"x")
    system.pipe_file("/sources/badtree/test/good/1.png", b"x")
    for name in ("train/good/1.png", "test/dent/1.png", "ground_truth/dent/2_mask.png"):
        system.pipe_file(f"/sources/maskless/{name}", b"x")
    with pytest.raises(SourceError, match=words) as caught:
        read_source(source)
    assert "\n" not in str(caught.value)


def test_an_address_must_be_one_that_can_be_printed_and_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for source, words in (
        ("foo://bucket", "fsspec knows no foo://"),
        ("file:///tmp", "lies on this machine; give its path"),
        ("arrow_hdfs://host/a.png", "cannot be reached"),
    ):
        with pytest.raises((SourceError, StorageError), match=words):
            read_source(source)
    for source, words in (
        ("sftp://me:secret@host/folder", "addresses are printed and kept"),
        ("https://host/a.png?signature=secret", "addresses are printed and kept"),
        ("https://host/a.png#secret", "addresses are printed and kept"),
        ("zip://a.png::s3://me:secret@bucket/b.zip", "several addresses in one"),
        ("simplecache::s3://me:secret@bucket/folder", "several addresses in one"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            read_source(source)
        assert "secret" not in str(caught.value)

    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3", name="s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(MissingExtraError, match="s3://bucket: s3:// needs s3fs; pip install s3fs"):
        read_source("s3://bucket")


def test_a_bucket_that_may_not_be_listed_is_one_line(there: str) -> None:
    class NoCredentialsError(Exception):
        """As botocore names it."""

    with refusing("parts", NoCredentialsError("Unable to locate credentials")), pytest.raises(SourceError) as caught:
        read_source(there)
    assert "no credentials for it in your environment (Unable to locate credentials)" in str(caught.value)
    with refusing("parts", PermissionError("Forbidden")), pytest.raises(SourceError, match="do not allow it"):
        read_source(there)


def test_check_finds_the_same_elsewhere(tree: Path, there: str) -> None:
    here, found = check_source(str(tree)), check_source(there)
    assert [finding.what.replace(str(tree), there) for finding in here.findings] == [
        finding.what for finding in found.findings
    ]
    assert here.shapes == found.shapes
