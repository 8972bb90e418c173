from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import blemish
from blemish.bench import measure as measure_module
from blemish.bench.differences import make_differences
from blemish.bench.measure import Bench, Measured, evaluated, fit_and_evaluate, fit_and_time, viewed
from blemish.bench.names import find_protocol
from blemish.bench.options import Options
from blemish.bench.padim import sum_of_layers
from blemish.bench.protocol import AUPRO, PIXEL_AUROC, Entry, Protocol
from blemish.bench.results import Result, append_result, read_results
from blemish.bench.rows import make_list, make_table
from blemish.bench.run import run
from blemish.bench.sources import all_classes, categories
from blemish.cli.bench import figure
from blemish.datasets import read_source, read_truth
from blemish.errors import BlemishError, SettingError, SourceError, StorageError, WeightsError
from blemish.evaluation import PerImage
from blemish.metrics import PixelTally
from conftest import write_tree


class Counting:
    """Measures nothing: gives figures that tell category and seed, and keeps what it was asked for."""

    def __init__(self, fault: str = "") -> None:
        self.asked: list[tuple[str, int, dict[str, Any]]] = []
        self.fault = fault

    def __call__(self, bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
        self.asked.append((Path(bench.dataset.root).name, bench.seed, dict(arguments)))
        if self.fault:
            raise WeightsError(self.fault)
        place = 0.5 if bench.dataset.root.endswith("one") else 0.7
        return Measured({"pixel.auroc": place + bench.seed / 10, "pixel.aupro": None}, seconds={"fit": 1.0})


def protocol_of(measure: Counting, **changes: Any) -> Protocol:
    return replace(
        Protocol(
            name="made-up",
            title="Made up, Table I",
            data="plates",
            entries=(
                Entry("Drawn", {"preset": "padim-r18-rd100"}, draws=True, seeds=3, measure=measure),
                Entry("Fixed", {"preset": "padim-r18"}, measure=measure),
            ),
            figures=(PIXEL_AUROC, AUPRO),
            sources=categories,
            groups={"both": ("one", "two")},
            published={"Fixed": {"both": ("61.0", "70.5")}, "Other": {"one": ("50.0",)}},
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    for name in ("one", "two"):
        write_tree(root / name, 8, 2)
    return root


def test_categories_are_the_trees_below_a_root_or_the_data_set_itself(trees: Path, tmp_path: Path) -> None:
    assert categories(str(trees)) == {"one": f"mvtec:{trees / 'one'}", "two": f"mvtec:{trees / 'two'}"}
    assert categories(str(trees / "one")) == {"one": str(trees / "one")}
    with pytest.raises(SourceError, match="no labelled images to measure on"):
        categories(str(trees / "one" / "train" / "good"))
    with pytest.raises(SourceError, match="holds none of mnist.npz"):
        all_classes(str(tmp_path))


def test_each_entry_is_measured_on_each_category_with_each_seed_it_draws(trees: Path, tmp_path: Path) -> None:
    measure = Counting()
    results = run(protocol_of(measure), str(trees), tmp_path / "r.jsonl")
    assert sorted((place, seed) for place, seed, _ in measure.asked) == sorted(
        [(place, seed) for place in ("one", "two") for seed in (0, 0, 1, 2)]
    )
    assert len(results) == 8
    assert results[0].data["train"] == 8
    assert {"blemish", "numpy", "processor"} <= set(results[0].versions)


def test_a_run_goes_on_where_it_was_and_tries_again_what_was_absent(trees: Path, tmp_path: Path) -> None:
    path, measure = tmp_path / "r.jsonl", Counting("no weights here")
    absent = run(protocol_of(measure), str(trees), path, Options(categories=["one"]))
    assert {result.absent for result in absent} == {"no weights here"}
    measure.fault = ""
    assert all(result.absent is None for result in run(protocol_of(measure), str(trees), path, Options(["one"])))
    before = len(measure.asked)
    run(protocol_of(measure), str(trees), path, Options(categories=["one"]))
    assert len(measure.asked) == before, "all was there"
    run(protocol_of(measure), str(trees), path)
    assert [place for place, _, _ in measure.asked[before:]] == ["two"] * 4
    run(protocol_of(measure), str(trees), path, Options(entries=["Fixed"], size=64))
    assert measure.asked[-1][2]["size"] == 64, "another size is another measurement"


def test_options_take_the_place_of_what_the_paper_has(trees: Path, tmp_path: Path) -> None:
    measure = Counting()
    entry = Entry("Fixed", {"preset": "padim-r18"}, strides=(4, 8), measure=measure)
    options = Options(backbone="efficientnet_lite0", size=96, settings={"epsilon": 0.1}, images=5, engine="torch")
    (result, _) = run(protocol_of(measure, entries=(entry,)), str(trees), tmp_path / "r.jsonl", options)
    assert measure.asked[0][2] == {
        "preset": "padim-r18",
        "backbone": "efficientnet_lite0",
        "layers": (1, 2),
        "size": 96,
        "settings": {"epsilon": 0.1},
        "engine": "torch",
    }
    assert result.data["train"] == 5


def test_weights_are_a_file_or_one_of_a_folder_by_the_name_of_the_network(trees: Path, tmp_path: Path) -> None:
    measure = Counting()
    entry = Entry("Fixed", {"detector": "padim", "backbone": "resnet18.tv_in1k"}, measure=measure)
    protocol = protocol_of(measure, entries=(entry,))
    for name in ("resnet18.safetensors", "resnet18-f37072fd.pth", "resnet18.tv_in1k.bin"):
        folder = tmp_path / name / "weights"
        folder.mkdir(parents=True)
        (folder / name).touch()
        for weights in (folder, folder / name):
            run(protocol, str(trees), tmp_path / f"{name}-{weights.name}.jsonl", Options(["one"], weights=weights))
            assert measure.asked[-1][2]["weights"] == str(folder / name)


def test_a_table_has_means_over_seeds_and_groups_and_dashes_for_what_is_absent(trees: Path, tmp_path: Path) -> None:
    protocol = protocol_of(Counting())
    results = run(protocol, str(trees), tmp_path / "r.jsonl")
    table = make_table(protocol, results)
    assert table.header == ["", "both", "one", "two"]
    assert table.rows == [
        ["Drawn", "70.0 ± 5.8, –", "60.0 ± 5.8, –", "80.0 ± 5.8, –"],
        ["Fixed", "60.0, –", "50.0, –", "70.0, –"],
        ["Fixed, published", "61.0, 70.5", "–", "–"],
        ["Other, published", "–", "50.0", "–"],
    ]
    part = [result for result in results if result.category == "one"]
    assert make_table(protocol, part).rows[1] == ["Fixed", "–", "50.0, –"], "no mean without all of its categories"
    turned = make_table(replace(protocol, by_category=True), part)
    assert turned.header == ["", "Drawn", "Fixed", "Fixed, published", "Other, published"]
    assert turned.rows[-1] == ["both", "–", "–", "61.0, 70.5", "–"]


def test_a_table_is_written_as_markdown_csv_and_latex(trees: Path, tmp_path: Path) -> None:
    protocol = protocol_of(Counting())
    table = make_table(protocol, run(protocol, str(trees), tmp_path / "r.jsonl"))
    assert "| Fixed | 60.0, – | 50.0, – | 70.0, – |" in table.written("markdown")
    assert 'Fixed,"60.0, –","50.0, –","70.0, –"' in table.written("csv").splitlines()
    latex = table.written("latex")
    assert r"Drawn & 70.0 $\pm$ 5.8, -- & " in latex
    assert r"pixel AUROC \%" in latex
    listed = make_list(protocol, run(protocol, str(trees), tmp_path / "r.jsonl")).written("csv").splitlines()
    assert listed[0] == "row,category,figure,unit,value,standard error,seeds,published,measured with"
    assert listed[1] == "Drawn,both,pixel AUROC,%,70,5.7735,3,,"
    assert "Fixed,both,AUPRO,%,,,,70.5," in listed
    with pytest.raises(SettingError, match="give one of markdown, csv, latex"):
        table.written("html")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(categories=["three"]), "has no category 'three'; it has one, two"),
        (Options(entries=["Rd 7"]), "has no entry 'Rd 7'; give one of Drawn, Fixed"),
        (Options(seeds=0), "seeds 0 is out of range"),
        (Options(images=1), "1 images are too few to fit"),
        (Options(preset="padim-r99"), "no preset is called 'padim-r99'; did you mean padim-r18"),
        (Options(preset="padim-r18", entries=["Fixed"]), "a preset and entries are given; give only one of them"),
        (Options(preset="padim-r18", detector="fre"), "a preset and a detector are given; give only one of them"),
        (Options(detector="padimm"), "padimm"),
        (Options(size=7), "size 7 is out of range"),
        (Options(settings={"epsilonn": 1}), "no row has a setting 'epsilonn'"),
        (Options(settings={"dims": -1}), "padim: dims is -1"),
        (Options(engine="abacus"), "no engine is called 'abacus'"),
        (Options(weights=Path("nowhere")), "nowhere: no such file or folder"),
        (Options(models=Path("/proc/models")), "may not be written to"),
        (Options(preset="padim-effb5", backbone="efficientnet_lite0"), "leave out --backbone"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_measured(
    options: Options, words: str, trees: Path, tmp_path: Path
) -> None:
    measure = Counting()
    with pytest.raises(BlemishError, match=words):
        run(protocol_of(measure), str(trees), tmp_path / "r.jsonl", options)
    assert not measure.asked
    assert not (tmp_path / "r.jsonl").exists()


def test_no_protocol_of_that_name_names_those_there_are() -> None:
    with pytest.raises(SettingError, match="no protocol is called 'table-1'; give one of mvg-figures"):
        find_protocol("table-1")


def test_a_last_line_that_is_not_whole_is_not_read_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    first, second = (Result("made-up", "Fixed", name, 0, figures={"pixel.auroc": 0.5}) for name in ("one", "two"))
    append_result(path, first)
    path.write_bytes(path.read_bytes() + b'{"protocol": "made')
    assert read_results(path) == [first]
    append_result(path, second)
    assert read_results(path) == [first, second]
    append_result(path, replace(first, time="later"))
    assert read_results(path) == [second, replace(first, time="later")], "the last of a key counts"
    assert read_results(path, "another") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "line 1 is not a result"),
        ("[1]", "line 1 is not a result"),
        ("\x00", "line 1 is not a result"),
        ('{"protocol": 1, "entry": "", "category": "", "seed": 0}', "protocol is of the wrong type"),
        ('{"protocol": "", "entry": "", "category": "", "seed": "0"}', "seed is of the wrong type"),
        ('{"protocol": "", "entry": "", "category": "", "seed": 0, "figures": [1]}', "figures is of the wrong type"),
        ('{"protocol": "", "entry": "", "category": "", "seed": 0, "figures": {"a": "b"}}', "a is not a number"),
        ('{"protocol": "", "entry": "", "category": "", "seed": 0, "other": 1}', "line 1 is not a result"),
        ("[" * 100000 + "]" * 100000, "line 1 is not a result"),
    ],
)
def test_a_file_of_something_else_is_refused_in_a_sentence(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(StorageError, match=words):
        read_results(path)


SMALL = {"detector": "padim", "size": 64, "settings": {"reduction": "all"}, "calibration": "hold-out"}


def test_the_sum_of_layers_has_the_sum_of_the_maps_of_a_model_for_each(trees: Path) -> None:
    dataset = read_source(trees / "one")
    arguments = {**SMALL, "layers": (2, 3)}
    found = sum_of_layers(Bench(dataset), arguments, {})
    models = [blemish.fit(dataset, **{**SMALL, "layers": [layer]}) for layer in (2, 3)]  # type: ignore[arg-type]
    pixels = PixelTally()
    paths = [sample.path for sample in dataset.test]
    for sample, one, other in zip(dataset.test, models[0].judge(paths), models[1].judge(paths), strict=True):
        assert one.map is not None
        assert other.map is not None
        pixels.update(np.asarray(one.map + other.map), read_truth(sample, models[0].recipe.geometry))
    assert found.figures["pixel.aupro"] == pytest.approx(pixels.figures()["aupro"])
    assert found.figures["image.auroc"] is not None


def test_entries_with_the_same_fit_share_it_and_a_view_changes_what_is_computed(trees: Path) -> None:
    dataset = read_source(trees / "one")
    bench = Bench(dataset)
    arguments = {"detector": "fre", "size": 64, "layers": [2], "settings": {"variance": 0.9, "power": 1.0}}
    whole = fit_and_time(bench, arguments, {})
    narrow = fit_and_evaluate(bench, arguments, {"variance": 0.3})
    assert whole.seconds["fit"] == narrow.seconds["fit"], "there was one fit"
    assert whole.figures["images_per_second"] > 0
    scores = [[] if found.per_image is None else found.per_image.scores for found in (whole, narrow)]
    assert len(scores[0]) == 4
    assert all(less < more for less, more in zip(*scores, strict=True)), "fewer directions leave more"
    model, _ = bench.fitted(arguments)
    fitted_so = blemish.fit(dataset, **{**arguments, "settings": {"variance": 0.3, "power": 1.0}})  # type: ignore[arg-type]
    paths = [sample.path for sample in dataset.test]
    again = [prediction.score for prediction in viewed(model, {"variance": 0.3}).judge(paths)]
    assert again == pytest.approx([prediction.score for prediction in fitted_so.judge(paths)], rel=1e-3)
    with pytest.raises(SettingError, match="fre has no setting 'map'"):
        viewed(model, {"map": "sm"})


def test_entries_are_compared_with_the_reference_on_the_same_images(trees: Path, tmp_path: Path) -> None:
    class Scored(Counting):
        def __call__(self, bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
            super().__call__(bench, arguments, view)
            anomalous = np.arange(40) >= 20
            shift = 0.0 if arguments["preset"] == "padim-r18" else 3.0
            scores = anomalous * shift + np.random.default_rng(0).normal(size=40)
            undefined = np.full(40, np.nan)
            images = PerImage(tuple(map(str, range(40))), anomalous, scores, undefined, undefined)
            return Measured({"pixel.auroc": 0.5}, images)

    measure, path = Scored(), tmp_path / "r.jsonl"
    protocol = protocol_of(measure, reference="Fixed")
    for _ in range(2):
        (fixed, drawn) = run(protocol, str(trees), path, Options(categories=["one"], seeds=1))
        assert (fixed.entry, fixed.against) == ("Fixed", []), "the reference is measured first"
        (found,) = drawn.against
        assert found["differs"] is True
        assert found["difference"] > 0.3
        lines = [line for line in path.read_text().splitlines() if '"Drawn"' not in line]
        path.write_text("\n".join(lines) + "\n")  # the second time the reference is read from the results
    table = make_differences(protocol, [fixed, drawn])
    assert table.rows[0][:4] == ["Drawn", "one", "0", "image AUROC"]
    assert table.rows[0][-1] == "differs"
    with pytest.raises(SettingError, match="no row was compared with the present Fixed; run both again"):
        make_differences(protocol, [replace(fixed, time="measured again"), drawn])
    with pytest.raises(SettingError, match="made-up has no main row to compare others with"):
        make_differences(replace(protocol, reference=None), [fixed, drawn])


def test_results_hold_no_number_that_json_has_not(trees: Path, tmp_path: Path) -> None:
    class NotFinite(Counting):
        def __call__(self, bench: Bench, arguments: Mapping[str, Any], view: Mapping[str, Any]) -> Measured:
            return Measured({"pixel.auroc": float("nan"), "pixel.aupro": np.float32(0.5)})

    path = tmp_path / "r.jsonl"
    run(protocol_of(NotFinite()), str(trees), path, Options(categories=["one"], seeds=1))
    figures = json.loads(path.read_text().splitlines()[0])["figures"]
    assert figures == {"pixel.auroc": None, "pixel.aupro": 0.5}


def test_figures_are_of_all_test_images_or_of_none(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = SimpleNamespace(unreadable=[SimpleNamespace(path="x.png", error="is not an image")])
    monkeypatch.setattr(measure_module, "evaluate", lambda *arguments: bad)
    bench = Bench(read_source(trees / "one"))
    with pytest.raises(SourceError, match=r"1 of 4 test images cannot be read, such as x.png \(is not an image\)"):
        evaluated(bench, SimpleNamespace(), {})  # type: ignore[arg-type]


def test_a_figure_that_would_show_nothing_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append_result(path, Result("fre-figure-2-shares", "layer1 0.5", "bottle", 0, absent="no weights"))
    with pytest.raises(SettingError, match="has nothing that the figure of fre-figure-2-shares shows"):
        figure("fre-figure-2-shares", path, str(tmp_path / "figures"))
    assert not (tmp_path / "figures").exists()
