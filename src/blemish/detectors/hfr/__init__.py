"""HFR: what a decoder cannot reconstruct of a frozen backbone's layers from the coarsest of them."""

from blemish.detectors.hfr.hfr import HFR

__all__ = ["HFR"]
