from __future__ import annotations

import math

import torch
from torch import Tensor

from blemish.detectors.vae.augmented import CHANGES, Augmented, Changes
from blemish.training.share import Joined


def ramps(count: int, height: int, width: int) -> Tensor:
    """Images whose first two colours are the row and the column of each pixel, from the centre."""
    down = (torch.arange(height) - (height - 1) / 2)[:, None].expand(height, width)
    across = (torch.arange(width) - (width - 1) / 2)[None].expand(height, width)
    return torch.stack([down, across, torch.ones(height, width)])[None].repeat(count, 1, 1, 1)


def test_without_changes_the_centre_is_as_it_was() -> None:
    images = torch.rand(3, 3, 40, 48)
    found = Augmented(Changes(), (32, 32))(images)
    assert torch.allclose(found, images[:, :, 4:36, 8:40], atol=1e-5)


def test_shifts_are_small_turns_and_moves_into_what_lies_around_the_crop() -> None:
    torch.manual_seed(0)
    places = Augmented(CHANGES["shifts"], (128, 128))(ramps(200, 146, 146))[:, :2]  # where each pixel came from
    right = places[:, :, :, 1:] - places[:, :, :, :-1]
    assert torch.allclose(right.norm(dim=1), torch.ones(1), atol=1e-3), "nothing is stretched or mirrored"
    angles = torch.rad2deg(torch.atan2(right[:, 0, 0, 0], right[:, 1, 0, 0]))
    assert 1.9 < float(angles.abs().max()) <= 2
    assert abs(float(angles.mean())) < 0.3
    moved = places.mean((2, 3))
    assert 2.4 < float(moved.abs().max()) <= 2.5 + 1e-3, "5 pixels of 256"
    assert float(places.abs().max()) > 66, "beyond the crop, at 63.5"


def test_flips_mirror_half_of_the_images_either_way() -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 3, 8, 8)
    found = Augmented(CHANGES["flips"], (8, 8))(image.repeat(400, 1, 1, 1))
    kinds = {axes: image.flip(axes)[0] for axes in [(), (2,), (3,), (2, 3)]}
    counts = {axes: sum(torch.allclose(one, kind, atol=1e-5) for one in found) for axes, kind in kinds.items()}
    assert sum(counts.values()) == 400
    assert all(70 < count < 130 for count in counts.values())


def test_turned_corners_are_filled_with_the_mirrored_image() -> None:
    torch.manual_seed(2)
    image = torch.rand(50, 3, 16, 16) + 1
    found = Augmented(CHANGES["turns"], (16, 16))(image)
    assert float(found.min()) >= 1
    assert math.isclose(float(found.mean()), float(image.mean()), rel_tol=0.02)


def test_a_step_of_the_same_seed_changes_images_in_the_same_way() -> None:
    module = Augmented(CHANGES["turns"], (16, 16))
    images, found = torch.rand(4, 3, 16, 16), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(module(images))
    assert torch.equal(found[0], found[1])
    assert float((found[0] - found[2]).abs().max()) > 0.1


def test_each_of_several_processes_changes_its_images_as_one_process_would() -> None:
    images = torch.rand(6, 3, 16, 16)
    torch.manual_seed(5)
    whole = Augmented(CHANGES["turns"], (16, 16))(images)
    for rank in range(2):
        joined = Joined(lambda tensor: None, rank, 2)
        share = joined.take(len(images))
        module = Augmented(CHANGES["turns"], (16, 16))
        module.noise.joined = joined
        torch.manual_seed(5)
        assert torch.allclose(module(images[share.rows]), whole[share.rows], atol=1e-6)
