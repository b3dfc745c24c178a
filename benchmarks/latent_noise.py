"""How well autoencoders rebuild held-out pictures from their latents, exact ones and noisy ones.

python benchmarks/latent_noise.py runs/noisy/model runs/quiet/model [--recipe mini-128] [--pictures 256]

Noise is given in deviations of each channel. Sharpness is that of the StoryWorld table, picture by picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from anystory.evaluation.storyworld.scores import sharpness_score
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.storyworld.attribute_classifier.pictures import to_bytes
from anystory.training.recipe import load_recipe
from anystory.training.stages.vae import held_out_pictures

NOISE = (0.0, 0.1, 0.2, 0.35, 0.5)


@torch.no_grad()
def measure(vae: PatchAutoencoder, pixels: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """PSNR in dB and sharpness of each picture (B,), from latents with noise of this many deviations."""
    latents = vae.encode(pixels, return_dict=False)[0].mode()  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
    deviation = latents.std(dim=(0, 2, 3), keepdim=True)
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    rebuilt: Tensor = vae.decode(latents + noise * deviation * drawn, return_dict=False)[0]  # pyright: ignore
    psnr = 10 * torch.log10(4 / (rebuilt - pixels).square().mean((1, 2, 3)))
    pairs = zip(to_bytes(rebuilt).numpy(), to_bytes(pixels).numpy(), strict=True)
    shares = [sharpness_score(ours, true)["sharpness"] for ours, true in pairs]
    return psnr, torch.tensor([ours / true for ours, true in shares])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model folders, each with a vae")
    parser.add_argument("--recipe", default="mini-128", help="whose pictures they are")
    parser.add_argument("--pictures", type=int, default=256)
    options = parser.parse_args()
    pixels = held_out_pictures(load_recipe(options.recipe), options.pictures, torch.device("cpu"))
    print("| noise | " + " | ".join(f"{model}: dB | sharpness, %" for model in options.models) + " |")
    print("|---" * (1 + 2 * len(options.models)) + "|")
    vaes = [PatchAutoencoder.from_pretrained(model / "vae").eval() for model in options.models]
    for noise in NOISE:
        cells = []
        for vae in vaes:
            psnr, sharpness = measure(vae, pixels, noise)
            spread = 1.96 / options.pictures**0.5
            cells.append(f"{psnr.mean():.1f} ± {spread * psnr.std():.1f}")
            cells.append(f"{100 * sharpness.mean():.0f} ± {100 * spread * sharpness.std():.0f}")
        print(f"| {noise} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
