from __future__ import annotations

import pytest
import torch

from blemish.detectors import FRE
from blemish.engines import BATCH
from blemish.statistics.subspace import ROOM


@pytest.mark.parametrize("batch", [16, BATCH, 2 * BATCH])
def test_as_many_as_it_can_leave_out_are_kept_without_loss_whatever_their_batches(batch: int) -> None:
    grids = [(2, 3, 3), (4, 2, 2)]
    most = FRE().leaves_out(grids)
    assert most == ROOM
    images = [torch.randn(most, *grid, generator=torch.Generator().manual_seed(0)) for grid in grids]
    detector = FRE()
    for start in range(0, most, batch):
        detector.update([layer[start : start + batch] for layer in images])
    assert all(subspace.is_exact for subspace in detector.subspaces_)
    rest = detector.without(torch.arange(10), [layer[:10] for layer in images])
    assert rest.count == most - 10
    rest.head()
