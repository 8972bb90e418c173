"""FRE: the part of an image's features outside the principal subspace of good images' features."""

from blemish.detectors.fre.fre import FRE
from blemish.detectors.fre.fre_ae import FREAE

__all__ = ["FRE", "FREAE"]
