"""Variational autoencoders trained on good images, with independent sites or a random field as prior."""

from blemish.detectors.vae.vae import VAE
from blemish.detectors.vae.vae_grf import VAEGRF

__all__ = ["VAE", "VAEGRF"]
