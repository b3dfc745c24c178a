"""How far a reference is from everything that an adapter was trained on, by the image encoder's features of it.

Shapes: U pictures, P image tokens of width Dc, k principal directions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["Familiarity", "picture_features"]


def picture_features(hidden: Tensor) -> Tensor:
    """The mean of each picture's patches, (U, Dc) float32. CLIP's hidden states (U, P, Dc), the class token first."""
    return hidden[:, 1:].float().mean(dim=1)


class Familiarity(nn.Module):
    """A normal distribution of picture features: k directions with their own variance, one variance for all others.

    (Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999, equation 6.) A trained encoder's features
    of its own kind of pictures fill few directions; those of another kind leave them. Buffers, not parameters: nobody
    trains them.

    Args:
        width: Dc.
        components: k, less than Dc.
    """

    mean: Tensor
    scale: Tensor
    directions: Tensor
    variances: Tensor
    rest: Tensor
    limit: Tensor

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        if not 1 <= components < width:
            raise ValueError(f"components must lie in 1…{width - 1}, got {components}")
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))  # one over the deviation of each feature
        self.register_buffer("directions", torch.zeros(components, width))
        self.register_buffer("variances", torch.ones(components))
        self.register_buffer("rest", torch.ones(1))
        self.register_buffer("limit", torch.ones(1))

    @classmethod
    def of(cls, features: Tensor, components: int) -> Self:
        """The distribution of picture features (U, Dc) of what an adapter was trained on.

        Raises:
            ValueError: too few pictures for so many components.
        """
        count, width = features.shape
        if count <= 2 * components:
            raise ValueError(f"{components} components need more than {2 * components} pictures, got {count}")
        found = cls(width, components)
        features = features.double()
        mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
        standard = (features - mean) / deviation
        _, singular, directions = torch.linalg.svd(standard, full_matrices=False)
        variances = singular.square() / count
        found.mean.copy_(mean)
        found.scale.copy_(1 / deviation)
        found.directions.copy_(directions[:components])
        found.variances.copy_(variances[:components])
        found.rest.copy_(variances[components:].sum() / (width - components))
        found.limit.copy_(found._distance(features.float()).max())
        return found

    def forward(self, hidden: Tensor) -> Tensor:
        """How strange pictures are, (U,) float32: about 0.5 for the usual, above 1 beyond all that it was made from.

        Args:
            hidden: (U, P, Dc) penultimate hidden states.
        """
        return self._distance(picture_features(hidden)) / self.limit.float()

    def _distance(self, features: Tensor) -> Tensor:
        """Mahalanobis distance over √Dc, (U,)."""
        standard = (features - self.mean.float()) * self.scale.float()
        inside = standard @ self.directions.float().T
        outside = standard.square().sum(dim=1) - inside.square().sum(dim=1)
        square = (inside.square() / self.variances.float()).sum(dim=1) + outside / self.rest.float()
        return (square / features.shape[1]).clamp_min(0).sqrt()
