from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.distributions import ContinuousBernoulli, MultivariateNormal, Normal, kl_divergence

import blemish
from blemish.cli.console import print_model
from blemish.datasets import read_source
from blemish.detectors import VAE, VAEGRF, Detector, make_detector
from blemish.detectors.vae.head import GRADIENTS, MAPS
from blemish.detectors.vae.network import (
    FixedField,
    JointField,
    Network,
    Objective,
    continuous_bernoulli_mean,
    elbo,
    log_likelihood,
)
from blemish.detectors.vae.random_field import FINE_FLOOR, RandomField, base
from blemish.detectors.vae.similarity import Similarity
from blemish.errors import SettingError, StorageError
from blemish.fitting.vae_presets import PADIM
from blemish.model import Model
from conftest import write_parts

RNG = np.random.default_rng(0)
QUICK = {"latent": 8, "epochs": 1, "drawn": 24}


def images(count: int = 4, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(RNG.random((count, 3, side, side))).float()


def started(detector: Detector, side: int = 32) -> Detector:
    detector.update([images(6, side)])
    return detector


@pytest.mark.parametrize("window", [7, 11, 15])
def test_similarity_is_scikit_images_to_a_hundred_thousandth(window: int) -> None:
    one, other = images(2, 40)[..., :36], images(2, 40)[..., :36]
    other[1] = one[1] + 0.05 * other[1]
    ours = Similarity(window, (40, 36))(one, other)
    for image, again, found in zip(one, other, ours, strict=True):
        for channel in range(3):
            _, wanted = structural_similarity(
                image[channel].double().numpy(),
                again[channel].double().numpy(),
                win_size=window,
                data_range=1.0,
                K1=0.01,
                K2=0.03,
                full=True,
            )
            assert np.abs(found[channel].numpy() - wanted).max() < 1e-5


def test_the_mean_of_the_continuous_bernoulli_is_torchs() -> None:
    logits = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    wanted = ContinuousBernoulli(logits=logits).mean
    assert torch.allclose(continuous_bernoulli_mean(logits), wanted, atol=1e-6)
    assert torch.allclose(continuous_bernoulli_mean(logits.float()).double(), wanted, atol=1e-5)


def test_the_ordinary_vaes_divergence_is_the_closed_form() -> None:
    detector = started(VAE(latent=8))
    assert isinstance(detector, VAE)
    objective = detector.objective()
    batch = images(3)
    with torch.no_grad():
        torch.manual_seed(0)
        terms = objective(batch)
        mean, log_variance = detector.network.encode(batch)
        posterior = Normal(mean, torch.exp(log_variance / 2))
        wanted = kl_divergence(posterior, Normal(0.0, 1.0)).sum((1, 2, 3)).mean() / (3 * 32 * 32)
    # The encoder normalises by the batch, so both passes saw the same statistics.
    assert float(terms["divergence"]) == pytest.approx(float(wanted), rel=1e-4)
    assert float(terms["loss"]) == pytest.approx(
        float(terms["reconstruction"] + detector.beta * terms["divergence"]), rel=1e-5
    )


@pytest.mark.parametrize("kind", [VAE, VAEGRF])
def test_the_loss_is_the_papers_sums_over_pixels_and_codes_by_the_number_of_values(kind: type[VAE]) -> None:
    """Equations 8, 9 and 12 by torch's distributions with the dense covariance, for one image."""
    detector = started(kind(latent=3, beta=0.7))
    assert isinstance(detector, VAE)
    objective, batch = detector.objective(), images(2)
    with torch.no_grad():
        torch.manual_seed(5)
        terms = objective(batch)
        mean, log_variance = detector.network.encode(batch)
        torch.manual_seed(5)
        codes = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        likelihood = ContinuousBernoulli(logits=detector.network.decode(codes)).log_prob(batch).sum((1, 2, 3))
        first = detector.prior().base()  # of 4×4 sites
        places = [(i, j) for i in range(4) for j in range(4)]
        dense = torch.stack([torch.stack([first[(k - i) % 4, (m - j) % 4] for k, m in places]) for i, j in places])
        posterior = MultivariateNormal(
            mean.double().flatten(2), torch.diag_embed(log_variance.double().exp().flatten(2))
        )
        prior = MultivariateNormal(torch.zeros(16, dtype=torch.float64), dense)
        divergence = kl_divergence(posterior, prior).sum(1)
    wanted = (-likelihood + 0.7 * divergence).mean() / (3 * 32 * 32)
    assert float(terms["loss"]) == pytest.approx(float(wanted), rel=1e-4)
    assert float(terms["elbo"]) == -float(terms["loss"])


@pytest.mark.parametrize("estimate", ["exact", "joint"])
def test_with_the_identity_a_field_is_the_ordinary_vaes_prior_whatever_the_images_vary(estimate: str) -> None:
    detector = started(VAEGRF(latent=4, correlation="identity", estimate=estimate))
    assert isinstance(detector, VAEGRF)
    assert torch.equal(detector.prior().eigenvalues, torch.ones(4, 3, dtype=torch.float64))
    assert list(detector.networks()) == ["network"]
    assert detector.summary() == started(VAE(latent=4)).summary()
    mean, variance = torch.randn(2, 4, 4, 4, dtype=torch.float64), torch.rand(2, 4, 4, 4, dtype=torch.float64) + 0.1
    wanted = (mean.square() + variance - 1 - variance.log()).sum((-2, -1)) / 2
    assert torch.allclose(detector.prior().divergence(mean, variance), wanted)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_code_of_any_stride_is_decoded_to_the_images_size(stride: int) -> None:
    network = Network(4, stride)
    with torch.no_grad():
        mean, log_variance = network.encode(images(2, 64))
        assert mean.shape == log_variance.shape == (2, 4, 64 // stride, 64 // stride)
        assert network.decode(mean).shape == (2, 3, 64, 64)
    widths = [part.in_channels for part in network.decoder if isinstance(part, torch.nn.ConvTranspose2d)]
    assert widths == [16 * stride >> halving for halving in range(len(widths))]
    assert widths[-1] == 32


def test_the_loss_is_differentiable_in_every_parameter() -> None:
    for detector in (VAE(latent=4), VAEGRF(latent=4), VAEGRF(latent=4, estimate="joint")):
        objective = started(detector).objective()
        objective.train()
        objective(images(4))["loss"].backward()
        missing = [name for name, p in objective.named_parameters() if p.grad is None or not bool(p.grad.any())]
        # A bias that batch normalisation takes out again gets none.
        assert all(name.endswith("bias") for name in missing), missing


def test_the_latent_field_has_the_images_variance_and_an_eighth_of_their_range() -> None:
    truth = RandomField.from_base(base("matern-1/2", 8.0, 0.02, 64, 64))
    drawn = truth.sample(3 * 120, torch.Generator().manual_seed(0)).reshape(120, 3, 64, 64).float()
    detector = VAEGRF(correlation="matern-1/2", latent=4)
    for part in torch.split(drawn, 50):
        detector.update([0.5 + part])
    found = detector.prior_of_images()
    # Centring every image takes its mean's variance away, so both come out a little lower.
    assert found.range == pytest.approx(8.0, rel=0.2)
    assert found.variance == pytest.approx(0.02, rel=0.2)
    wanted = RandomField.from_base(base("matern-1/2", found.range / 8, found.variance, 8, 8))
    assert torch.equal(detector.prior().eigenvalues, wanted.eigenvalues)
    told = detector.summary()
    assert told["floored_eigenvalues"] == wanted.floored
    assert told["floored_eigenvalues_of_images"] == found.floored
    assert (told["longest_range"], told["range_is_bounded"]) == (16, False)
    detector.longest_range, detector.prior_ = 2.0, None
    told = detector.summary()
    assert told["range"] == pytest.approx(2, rel=1e-3)
    assert (told["longest_range"], told["range_is_bounded"]) == (2, True)


def test_a_range_that_stopped_at_its_bound_is_told_after_a_fit(
    vae_model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    print_model(vae_model, "ground.blemish")
    assert "bound" not in capsys.readouterr().out
    stopped = {**vae_model.provenance.learned, "range_is_bounded": True, "longest_range": 10.0}
    bounded = copy.copy(vae_model)
    bounded.provenance = replace(vae_model.provenance, learned=stopped)
    print_model(bounded, "ground.blemish")
    told = " ".join(capsys.readouterr().out.split())
    assert "the prior's range stopped at its bound of 10 pixels: allow a longer one with --set longest_range" in told


def test_on_real_images_the_exact_prior_is_the_one_known(data: Path) -> None:
    """Of 400 empty photographs of the Livestock set: range 1.7 pixels, variance 0.004, by three tenths."""
    from functools import partial

    from blemish.images import Geometry, decode_ahead, read_image

    samples = read_source(data / "livestock").train
    chosen = [samples[index].path for index in np.random.default_rng(0).permutation(len(samples))[:400]]
    detector = VAEGRF(latent=1)
    for pixels in decode_ahead(partial(read_image, geometry=Geometry()), chosen):
        assert isinstance(pixels, np.ndarray)
        detector.update([torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255])
    found = detector.prior_of_images()
    assert found.range == pytest.approx(1.69, abs=0.05)
    assert found.variance == pytest.approx(0.0040, abs=0.0003)
    assert found.log_likelihood == pytest.approx(3.549, abs=0.02)


@pytest.mark.parametrize("map", MAPS)
def test_a_model_is_trained_saved_and_loaded_on_either_engine(tree: Path, tmp_path: Path, map: str) -> None:
    model = blemish.fit(tree, detector=VAEGRF(map=map, **QUICK), size=32)
    assert model.recipe.backbone == "pixels"
    assert model.provenance.images == 24
    expected = list(model.predict(tree))
    assert all(prediction.map is not None and prediction.map.shape == (32, 32) for prediction in expected)
    model.save(tmp_path / "model")
    if map in GRADIENTS:
        with pytest.raises(SettingError, match="needs gradients, which OpenVINO does not compute; give --engine torch"):
            Model.load(tmp_path / "model", "openvino")
        with pytest.raises(SettingError, match="needs gradients"):
            blemish.fit(tree, detector=VAEGRF(map=map, **QUICK), size=32, engine="openvino")
    for engine in ("auto", "torch") if map in GRADIENTS else ("openvino", "torch"):
        found = list(Model.load(tmp_path / "model", engine).predict(tree))
        scores = [prediction.score for prediction in expected]
        assert [prediction.score for prediction in found] == pytest.approx(scores, rel=1e-3, abs=0.02), (
            "in standard deviations of a map that an untrained decoder hardly varies"
        )
    explanation = model.explain(next((tree / "test" / "scratch").iterdir()))
    assert [cause.layer for cause in explanation.layers] == ["rgb"]


def test_the_maps_are_what_they_are_said_to_be() -> None:
    detector = started(VAE(latent=6, map="mad-sm"))
    assert isinstance(detector, VAE)
    detector.network.eval()
    batch = images(2)
    with torch.no_grad():
        found = {}
        for map in MAPS:
            detector.map = map
            found[map] = detector.head()((batch,))
        mean, _ = detector.network.encode(batch)
        slow = torch.stack([(z - z.mean(0)).abs().mean(0) for z in mean])
        shown = continuous_bernoulli_mean(detector.network.decode(mean))
    assert torch.allclose(found["mad"], slow, atol=1e-6)
    assert torch.allclose(found["l2"], ((batch - shown) ** 2).sum(1), atol=1e-5)
    for image, reconstruction, map in zip(batch, shown, found["sm"], strict=True):
        colours = [
            structural_similarity(one.numpy(), other.numpy(), win_size=11, data_range=1.0, full=True)[1]
            for one, other in zip(image, reconstruction, strict=True)
        ]
        assert np.abs(map.numpy() - np.prod([1 - colour for colour in colours], axis=0)).max() < 1e-4
    repeated = slow.repeat_interleave(8, 1).repeat_interleave(8, 2)

    def unit(map: torch.Tensor) -> torch.Tensor:
        return (map - map.min()) / (map.max() - map.min())

    product = torch.stack([unit(a) * unit(b) for a, b in zip(repeated, found["sm"], strict=True)])
    assert torch.allclose(found["mad-sm"], product, atol=1e-5)
    assert torch.allclose(found["gradient"], slope(detector, batch), atol=1e-3 * float(found["gradient"].max()))
    product = torch.stack([unit(a) * unit(b) for a, b in zip(found["gradient"], found["sm"], strict=True)])
    assert torch.allclose(found["gradient-sm"], product, atol=1e-5)


def slope(detector: VAE, batch: torch.Tensor) -> torch.Tensor:
    """|dL/dx| summed over colours, by backpropagation one image at a time."""
    prior = detector.prior()
    field = RandomField(prior.eigenvalues.float(), prior.width)
    found = []
    with torch.enable_grad():
        for image in batch:
            x = image[None].clone().requires_grad_()
            reconstruction, divergence = elbo(detector.network, field, x)
            (reconstruction + detector.beta * divergence).sum().backward()
            assert x.grad is not None
            found.append(x.grad[0].abs().sum(0))
    return torch.stack(found)


def test_the_gradient_of_the_loss_is_that_of_small_differences() -> None:
    detector = VAEGRF(latent=4, map="gradient", beta=0.3)
    batch = images(6).double()
    detector.update([batch.float()])
    network = detector.network.double().eval()
    field = detector.prior()
    head = detector._head()
    head.field = FixedField(field).double()
    found = head._steepness(batch[:1])[0]

    def loss(x: torch.Tensor) -> float:
        with torch.no_grad():
            reconstruction, divergence = elbo(network, RandomField(field.eigenvalues, field.width), x)
        return float((reconstruction + 0.3 * divergence)[0])

    for row, column in [(0, 0), (9, 17), (31, 30)]:
        total = 0.0
        for colour in range(3):
            step = torch.zeros_like(batch[:1])
            step[0, colour, row, column] = 1e-5
            total += abs(loss(batch[:1] + step) - loss(batch[:1] - step)) / 2e-5
        assert float(found[row, column]) == pytest.approx(total, rel=1e-2)


def test_projection_lowers_the_energy_and_stays_between_0_and_1() -> None:
    detector = started(VAE(latent=6, map="projection"))
    assert isinstance(detector, VAE)
    detector.network.eval()
    batch = images(2)
    head = detector._head()
    with torch.no_grad():
        projected = head._projected(batch)

        def energy(x: torch.Tensor) -> torch.Tensor:
            logits = detector.network.decode(detector.network.encode(x)[0])
            return (0.05 * (x - batch).abs() - log_likelihood(logits, x)).sum((1, 2, 3))

        assert bool((energy(projected) < energy(batch)).all())
        assert 0 <= float(projected.min()) <= float(projected.max()) <= 1
        shown = continuous_bernoulli_mean(detector.network.decode(detector.network.encode(projected)[0]))
        dissimilar = (1 - Similarity(11, (32, 32))(batch, shown)).prod(1)
        assert torch.allclose(head((batch,)), dissimilar, atol=1e-5)


def test_the_saved_graph_of_mad_has_no_decoder(tree: Path, tmp_path: Path) -> None:
    for map, decodes in (("mad", False), ("sm", True)):
        blemish.fit(tree, detector=VAE(map=map, **QUICK), size=64).save(tmp_path / map)
        graph = (tmp_path / map / "scoring.xml").read_text()
        assert ("ConvolutionBackpropData" in graph) is decodes


def test_the_joint_prior_climbs_the_images_likelihood() -> None:
    truth = RandomField.from_base(base("matern-3/2", 3.0, 0.02, 32, 32), FINE_FLOOR)
    drawn = truth.sample(3 * 200, torch.Generator().manual_seed(0)).reshape(200, 3, 32, 32).float()
    field = JointField("matern-3/2", (32, 32), 8)
    assert field.range.item() == 1
    assert field.variance.item() == pytest.approx(0.01)
    exact = VAEGRF(latent=1)
    exact.update([drawn])
    wanted = exact.prior_of_images()
    optimizer = torch.optim.Rprop(field.parameters(), lr=1e-2)
    for _ in range(80):  # on all images at once, where nothing is noise
        optimizer.zero_grad()
        field.terms(drawn)["prior"].backward()
        optimizer.step()
    assert field.range.item() == pytest.approx(wanted.range, rel=0.01)
    assert field.variance.item() == pytest.approx(wanted.variance, rel=0.01)
    assert field.terms(drawn)["prior"].item() == pytest.approx(-wanted.log_likelihood + np.log(2 * np.pi) / 2, abs=1e-3)


def test_the_divergence_gives_the_joint_prior_no_gradient() -> None:
    field = JointField("matern-3/2", (32, 32), 8)
    latent = field()
    assert not latent.eigenvalues.requires_grad
    assert latent.shape == (4, 4)


def test_the_joint_prior_is_saved_and_bounded(tree: Path, tmp_path: Path) -> None:
    model = blemish.fit(tree, detector=VAEGRF(**QUICK, estimate="joint", map="gradient"), size=64)
    assert model.provenance.learned["range"] == pytest.approx(1, abs=0.01), "a few of Rprop's smallest steps"
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert [p.score for p in loaded.predict(tree)] == [p.score for p in model.predict(tree)]
    assert loaded.learned.detector.summary() == model.provenance.learned
    field = JointField("matern-3/2", (32, 32), 8)
    with torch.no_grad():
        field.log_range.fill_(9.0)
        field.log_deviation.fill_(-9.0)
    field.terms(images(2))
    assert field.range.item() == pytest.approx(10)
    assert field.variance.item() == pytest.approx(0.001)
    longer = JointField("matern-1/2", (32, 32), 8, longest=25)
    with torch.no_grad():
        longer.log_range.fill_(9.0)
    longer.terms(images(2))
    assert longer.range.item() == pytest.approx(25)


def test_a_broken_fit_is_resumed_and_another_models_checkpoint_refused(tree: Path, tmp_path: Path) -> None:
    settings = {"latent": 8, "epochs": 2, "drawn": None, "batch": 4, "augment": "shifts"}
    cut = {"size": 72, "crop": 64}

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.training.loop.EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            blemish.fit(tree, detector=VAE(**settings), **cut, checkpoints=tmp_path / "c", progress=stop)
    resumed = blemish.fit(tree, detector=VAE(**settings), **cut, checkpoints=tmp_path / "c", resume=True)
    whole = blemish.fit(tree, detector=VAE(**settings), **cut)
    assert [p.score for p in resumed.predict(tree)] == [p.score for p in whole.predict(tree)]
    with pytest.raises(StorageError, match=r"another training \(detector is 'vae' there, 'vae-grf' here\)"):
        blemish.fit(tree, detector=VAEGRF(**settings), **cut, checkpoints=tmp_path / "c", resume=True)


def test_padims_vae_is_trained_on_what_is_around_the_crop_and_scores_by_the_squared_error(tree: Path) -> None:
    fewer = {"latent": 4, "epochs": 1, "drawn": 16, "batch": 8}
    model = blemish.fit(tree, preset="padim-vae", settings=fewer, size=72, crop=64)
    assert model.provenance.learned == {"sites": [2, 2], "channels": 4}
    assert {**PADIM, **fewer}.items() <= model.recipe.settings.items()
    (prediction,) = model.predict(next((tree / "test" / "scratch").iterdir()))
    explanation = model.explain(next((tree / "test" / "scratch").iterdir()))
    assert prediction.map is not None
    assert explanation.reconstruction is not None
    error = ((explanation.image / 255 - explanation.reconstruction / 255) ** 2).sum(2)
    assert np.abs(prediction.map - error).max() < 0.02, "the reconstruction is shown in 256 steps"


def test_images_of_one_colour_each_are_learned_without_a_fault(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "flat").mkdir()
    for index in range(24):
        Image.new("RGB", (64, 64), (90, 90, 88 + index % 5)).save(tmp_path / "flat" / f"{index}.png")
    write_parts(tmp_path / "new", 1, size=64)
    model = blemish.fit(tmp_path / "flat", detector=VAEGRF(**QUICK, map="l2"), size=64)
    assert model.provenance.learned["variance"] == 0.001
    (flat,) = model.predict(tmp_path / "flat" / "0.png")
    (other,) = model.predict(tmp_path / "new")
    assert other.score > flat.score


def test_a_standardised_map_has_mean_0_and_deviation_1_at_every_position_of_normal_images() -> None:
    detector = started(VAE(latent=6))
    assert isinstance(detector, VAE)
    detector.network.eval()
    normal = images(40)
    raw = detector.head()((normal,))
    detector.settle([part] for part in torch.split(normal, 16))
    maps = detector.head()((normal,))
    assert torch.allclose(maps.mean(0), torch.zeros(4, 4), atol=1e-3)
    assert torch.allclose(maps.std(0), torch.ones(4, 4), atol=1e-3)
    assert torch.allclose(maps, (raw - raw.mean(0)) / raw.std(0), atol=1e-2)
    detector.standardised = False
    assert torch.equal(detector.head()((normal,)), raw), "the paper's map"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"map": "loud"}, "map is 'loud'; expected mad, sm"),
        ({"beta": -1.0}, "beta is -1.0; expected a number from 0 to 1,000"),
        ({"latent": 0}, "latent is 0; expected a whole number"),
        ({"window": 10}, "window is 10; expected an odd number"),
        ({"window": 1}, "window is 1; expected an odd number"),
        ({"stride": 12}, "stride is 12; expected 8, 16 or 32"),
        ({"augment": "wild"}, "augment is 'wild'; expected none, flips, turns or shifts"),
        ({"longest_range": 0.1}, "longest_range is 0.1; expected a number above 0.1"),
        ({"correlation": "cubic"}, "correlation is 'cubic'; expected matern-1/2"),
        ({"betta": 1.0}, "no setting 'betta'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingError, match=expected):
        make_detector("vae-grf", settings)


def test_sizes_that_are_no_multiple_of_eight_and_backbones_are_refused(tree: Path) -> None:
    with pytest.raises(SettingError, match="images of 60x60 pixels cannot be encoded to whole sites; give a --size"):
        blemish.fit(tree, detector="vae", size="60x60")
    with pytest.raises(SettingError, match="vae takes the images themselves, .* leave out backbone"):
        blemish.fit(tree, detector="vae", size=64, backbone="resnet18")
    with pytest.raises(SettingError, match="epochs is 0; expected a whole number"):
        blemish.fit(tree, detector=VAE(epochs=0), size=64)


def test_it_must_see_images_before_it_can_score() -> None:
    with pytest.raises(SettingError, match="vae has seen no images yet"):
        VAE().head()
    with pytest.raises(SettingError, match="takes images of 3 colours, not features of shapes"):
        VAE().update([torch.zeros(1, 8, 16, 16)])


def test_what_was_learned_is_restored() -> None:
    detector = started(VAEGRF(latent=4))
    again = make_detector("vae-grf", detector.settings()).restore(detector.grids_, detector.tensors())
    assert isinstance(again, VAEGRF)
    assert again.count == 6
    assert again.prior_of_images() == detector.prior_of_images()  # type: ignore[attr-defined]
    assert isinstance(again.objective(), Objective)


def test_images_are_drawn_from_the_prior_by_seed_and_reconstructions_are_shown(tree: Path, vae_model: Model) -> None:
    model = vae_model
    drawn = model.sample(3)
    assert drawn.shape == (3, 64, 64, 3)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, model.sample(3))
    assert not np.array_equal(drawn, model.sample(3, seed=1))
    explanation = model.explain(next((tree / "test" / "good").iterdir()))
    assert explanation.reconstruction is not None
    assert explanation.reconstruction.shape == (64, 64, 3)
    assert not np.array_equal(explanation.reconstruction, explanation.image)
