"""Imports OpenVINO, in this one place, so that nothing leaves the machine.

`import openvino` would load `openvino_telemetry`, which writes an identifier into the home folder and reports the use
to a server. Where that package cannot be imported, OpenVINO takes a stand-in that does nothing. If a
program imported openvino before blemish, the use was reported already, and nothing can be done here.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Any

if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails from now on

import openvino
from openvino.frontend import FrontEndManager

from blemish.errors import SettingError

__all__ = ["FrontEndManager", "check_process", "openvino"]

_process: int | None = None
_users: weakref.WeakSet[Any] = weakref.WeakSet()
_kept: list[Any] = []

if hasattr(os, "register_at_fork"):
    # Compiled graphs must not be freed in a forked child either, which would abort.
    os.register_at_fork(after_in_child=lambda: _kept.extend(_users))


def check_process(user: object) -> None:
    """Notes that OpenVINO runs in this process; to be called before anything is compiled or run.

    Args:
        user: the object that holds what is compiled.

    Raises:
        SettingError: it ran in the process from which this one was forked. Its threads were not copied, and waiting
            for them would never end.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    _users.add(user)
    if _process != os.getpid():
        raise SettingError(
            "OpenVINO was used before this process was forked, and cannot run in a fork; start processes with "
            'multiprocessing.get_context("spawn"), or predict only in the children'
        )
