from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import SettingError
from blemish.training import Epoch, read_epochs

LINES = """{"step": 0, "epoch": 0, "seconds": 1.0, "loss": 4.0, "elbo": -4.0}
{"step": 1, "epoch": 0, "seconds": 2.0, "loss": 2.0, "elbo": -2.0, "judged": 0.75}
{"step": 2, "epoch": 1, "seconds": 3.0, "loss": 1.0, "elbo": -1.0}
{"step": 3, "epo"""


def test_an_epoch_has_the_mean_of_each_term_over_the_steps_that_have_it(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(LINES)
    assert read_epochs(tmp_path) == [
        Epoch(0, 2, {"loss": 3.0, "elbo": -3.0, "judged": 0.75}),
        Epoch(1, 1, {"loss": 1.0, "elbo": -1.0}),
    ], "without a line that a crash cut short"


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"log.jsonl: is not there; give the folder that was the --checkpoints"):
        read_epochs(tmp_path)
