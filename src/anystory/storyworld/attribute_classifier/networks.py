"""The attribute classifier's two small convolutional networks.

Shape suffixes: B samples, H × W pixels of a picture, K × K pixels of a crop.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.storyworld.attribute_classifier.config import ClassifierConfig

_GLIMPSES = 2
"""Places that each attribute looks at."""


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class _Block(nn.Module):
    """Residual block at constant width and resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class SceneNet(nn.Module):
    """Which pixel belongs to which character, and the place and light of a picture: a small U-Net.

    Characters are numbered from left to right, so a plain classifier of pixels (background, 1st, 2nd, …) segments
    instances.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        a, b, c = config.scene_widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), _conv(12, a), _Block(a))
        self.down = nn.Sequential(_conv(a, b, 2), _Block(b), _Block(b))
        self.bottom = nn.Sequential(_conv(b, c, 2), _Block(c), _Block(c))
        self.to_middle = nn.Conv2d(c, b, 1)
        self.middle = nn.Sequential(_conv(2 * b, b), _Block(b))
        self.to_top = nn.Conv2d(b, a, 1)
        self.top = nn.Sequential(_conv(2 * a, a), _Block(a))
        self.pixels = nn.Sequential(nn.Conv2d(a, 4 * (config.max_characters + 1), 1), nn.PixelShuffle(2))
        self.place = nn.Linear(c, len(config.places))
        self.light = nn.Linear(c, len(config.lights))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 3, H, W) in [-1, 1] to logits: pixels (B, characters + 1, H, W), places, lights."""
        fine = self.stem(images)
        half = self.down(fine)
        deep = self.bottom(half)
        x = self.middle(torch.cat([half, F.interpolate(self.to_middle(deep), scale_factor=2)], dim=1))
        x = self.top(torch.cat([fine, F.interpolate(self.to_top(x), scale_factor=2)], dim=1))
        whole = deep.mean(dim=(2, 3))
        return self.pixels(x), self.place(whole), self.light(whole)


class CharacterNet(nn.Module):
    """The attributes of one character, from its enlarged crop and a close-up of its chest.

    Each attribute attends to a few places of both feature maps and sees the mean of the whole. The close-up is there
    for emblems, which are six pixels wide.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        a, b, c = config.character_widths
        d, e, f = config.chest_widths
        self.names = tuple(config.attributes)
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), _conv(16, a), _Block(a), _Block(a))
        self.quarter = nn.Sequential(_conv(a, b, 2), _Block(b), _Block(b))
        self.eighth = nn.Sequential(_conv(b, c, 2), _Block(c), _Block(c))
        self.to_quarter = nn.Conv2d(c, b, 1)
        self.join = nn.Sequential(nn.Conv2d(2 * b, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True))
        self.chest = nn.Sequential(
            _conv(4, d), _conv(d, e, 2), _Block(e), _conv(e, f, 2), _Block(f),
            nn.Conv2d(f, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True),
        )  # fmt: skip
        looks = len(self.names) * _GLIMPSES
        self.look = nn.Linear(c, looks)
        self.where = nn.Parameter(torch.zeros(looks, (config.crop // 4) ** 2 + (config.chest_crop // 4) ** 2))
        self.say = nn.ModuleList(nn.Linear((_GLIMPSES + 1) * c, len(values)) for values in config.attributes.values())

    def forward(self, crops: Tensor, chests: Tensor) -> dict[str, Tensor]:
        """Logits (B, values) of every attribute.

        Args:
            crops: (B, 4, K, K), RGB in [-1, 1] and the mask.
            chests: (B, 4, k, k), likewise.
        """
        quarter = self.quarter(self.fine(crops))
        context = F.interpolate(self.to_quarter(self.eighth(quarter)), scale_factor=2)
        features = self.join(torch.cat([quarter, context], dim=1))
        places = torch.cat([features.flatten(2), self.chest(chests).flatten(2)], dim=2).transpose(1, 2)
        attention = (self.look(places).transpose(1, 2) + self.where).float().softmax(dim=-1)
        seen = (attention.to(places.dtype) @ places).unflatten(1, (len(self.names), _GLIMPSES)).flatten(2)
        whole = features.mean(dim=(2, 3))
        return {
            name: say(torch.cat([seen[:, i], whole], dim=1))
            for i, (name, say) in enumerate(zip(self.names, self.say, strict=True))
        }
