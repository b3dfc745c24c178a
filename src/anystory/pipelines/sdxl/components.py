"""What the constructors of SDXL's pipelines take beyond diffusers' own types."""

from __future__ import annotations

from typing import TypeAlias

from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, MultiControlNetModel

from anystory.models.patch_autoencoder import PatchAutoencoder

__all__ = ["Autoencoder", "ControlNets"]

Autoencoder: TypeAlias = AutoencoderKL | PatchAutoencoder | AutoencoderTiny
ControlNets: TypeAlias = ControlNetModel | list[ControlNetModel] | tuple[ControlNetModel] | MultiControlNetModel
