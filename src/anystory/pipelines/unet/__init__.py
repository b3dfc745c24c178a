"""Subjects on a U-Net: what a pipeline needs whose denoiser is one, SDXL and the embedded model."""
