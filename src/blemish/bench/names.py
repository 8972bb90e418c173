"""All protocols by name."""

from __future__ import annotations

from blemish.bench import fre, hfr, mvg, padim, vae_grf
from blemish.bench.protocol import Protocol
from blemish.errors import SettingError

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for paper in (mvg, padim, hfr, vae_grf, fre) for protocol in paper.PROTOCOLS
}


def find_protocol(name: str) -> Protocol:
    """Returns the protocol of that name. Raises `SettingError` if there is none."""
    if name not in PROTOCOLS:
        raise SettingError(f"no protocol is called {name!r}; give one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
