"""HFR: what a decoder cannot reconstruct, from the coarsest layer of a frozen backbone, of all its layers."""

from blemish.detectors.hfr.hfr import HFR

__all__ = ["HFR"]
