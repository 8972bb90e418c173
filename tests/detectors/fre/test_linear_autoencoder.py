"""FRE's eq. 1 and its third proposition, vector by vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blemish.detectors import FREAE
from blemish.detectors.fre.linear_autoencoder import LinearAutoencoder

SHAPE = (3, 2, 2)


def features() -> torch.Tensor:
    return 2 + torch.randn(10, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["ae", "tied"])
def test_the_loss_is_the_squared_error_of_the_vectors_over_their_count_and_length(method: str) -> None:
    detector = FREAE(method=method, variance=0.6).update([features()])
    objective = detector.objective()
    (layer,) = detector.layers_
    assert isinstance(layer, LinearAutoencoder)
    encoder, decoder = layer.encoder.weight.detach().double().numpy(), layer.decoder.detach().double().numpy().T
    assert np.array_equal(encoder.T, decoder) == (method == "tied")
    mean = features().flatten(1).mean(0).double().numpy()
    error = 0.0
    for vector in features().flatten(1).double().numpy():
        centred = vector - mean  # the biases start so that the mean is reconstructed
        error += float(((centred - decoder @ encoder @ centred) ** 2).sum())
    assert float(objective([features()])["loss"].detach()) == pytest.approx(error / (10 * 12), rel=1e-4)


def test_any_invertible_mixing_of_the_code_leaves_the_same_residuals() -> None:
    torch.manual_seed(1)
    layer = LinearAutoencoder(12, 4, tied=False)
    vectors = features().flatten(1)
    mixing = torch.eye(4) + 0.3 * torch.randn(4, 4)
    with torch.no_grad():
        before = layer(vectors)
        layer.encoder.weight.copy_(mixing @ layer.encoder.weight)  # C A
        layer.encoder.bias.copy_(mixing @ layer.encoder.bias)
        layer.decoder.copy_(torch.linalg.inv(mixing).T @ layer.decoder)  # B C^-1, transposed
        assert torch.allclose(layer(vectors), before, atol=1e-4)
