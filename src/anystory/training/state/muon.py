"""Muon: momentum whose matrix is made orthogonal before each step (Jordan et al. 2024), AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from anystory.precision import bf16_is_native

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic, as published: singular values come near one in five rounds, not exactly to it."""
ROUNDS = 5
EDGES = ("conv_in.", "conv_out.", "embed")
"""Parts of the names of weights that stay AdamW's: the first and the last layer, and embeddings, as published."""


def orthogonalised(matrices: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Newton–Schulz: matrices (B, m, n) with about the same singular vectors and singular values near one.

    Each is divided by its Frobenius norm and goes `rounds` times through X ← aX + (bA + cA²)X, A = XXᵀ, with
    `COEFFICIENTS`; in bf16 where the device multiplies in it. Returns the type it computed in.
    """
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if bf16_is_native(matrices.device) else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` takes matrices only; this one takes everything that a stage trains, in its order.

    Matrices, and convolutions as matrices (out, in × height × width), move by their orthogonalised Nesterov momentum,
    scaled to the size of AdamW's steps (Liu et al. 2025: 0.2 √max(m, n)). Alike shapes go through Newton–Schulz
    together. All other parameters are AdamW's.

    Args:
        parameters: by name, in the order of checkpoints.
        lr: Muon's learning rate.
        adamw_ratio: AdamW's learning rate as a share of it.
        betas: AdamW's.
        momentum: Muon's.
        weight_decay: of both, decoupled.
        edges: parts of names that mark what AdamW keeps besides vectors.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        *,
        lr: float,
        adamw_ratio: float = 0.5,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        edges: Iterable[str] = EDGES,
    ) -> None:
        marks = tuple(edges)
        self._orthogonal = {
            id(value)
            for name, value in parameters.items()
            if value.ndim in (2, 4) and not any(mark in name for mark in marks)
        }
        defaults = {
            "lr": lr,
            "adamw_ratio": adamw_ratio,
            "betas": betas,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eps": 1e-8,
        }
        super().__init__(parameters.values(), defaults)

    def orthogonal(self, parameter: Tensor) -> bool:
        """Whether a parameter is Muon's, not AdamW's."""
        return id(parameter) in self._orthogonal

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            self._muon([p for p in moved if self.orthogonal(p)], group)
            self._adamw([p for p in moved if not self.orthogonal(p)], group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            rows = parameter.shape[0]
            alike.setdefault((rows, parameter.numel() // rows), []).append(parameter)
        for (rows, columns), members in alike.items():
            gradients: list[Tensor] = [p.grad for p in members]  # pyright: ignore[reportAssignmentType]
            for parameter in members:
                if not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in members]
            # All of a shape at once: on a GPU the launches of a kernel for each would take longer than the kernels.
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            moved = torch._foreach_lerp(gradients, buffers, group["momentum"])
            updates = orthogonalised(torch.stack([_as_matrix(update) for update in moved])).to(members[0].dtype)
            scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
            torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            steps = [update.view(p.shape) for p, update in zip(members, updates.unbind(), strict=True)]
            torch._foreach_add_(members, steps, alpha=-scale)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],  # pyright: ignore[reportArgumentType]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] * group["adamw_ratio"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _as_matrix(value: Tensor) -> Tensor:
    """A weight (out, …) as a matrix (out, all the rest), whatever its layout in memory."""
    return value.reshape(value.shape[0], -1)
