"""OpenVINO, imported in this one place, so that nothing leaves the machine.

`import openvino` would load `openvino_telemetry`, which writes an identifier into the home folder and reports the use
to a server. Where that package cannot be imported, OpenVINO takes a stand-in that does nothing. A program that imported
openvino before blemish has let it report already; nothing can be done about that here.
"""

from __future__ import annotations

import os
import sys

if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails from now on

import openvino
from openvino.frontend import FrontEndManager

from blemish.errors import SettingError

__all__ = ["FrontEndManager", "check_process", "openvino"]

_process: int | None = None


def check_process() -> None:
    """Notes that OpenVINO runs in this process; to be called before anything is compiled or run.

    Raises:
        SettingError: it ran in the process from which this one was forked. Its threads were not copied, so it would
            wait for them for ever.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    if _process != os.getpid():
        raise SettingError(
            "OpenVINO was used before this process was forked, and cannot run in a fork; start processes with "
            'multiprocessing.get_context("spawn"), or predict only in the children'
        )
