"""The published networks, written from their description: features, perceptron, and the law around it in torch.

Ma et al. 2023, arXiv 2304.14369: stretches - 1, F^T F - I and det F - 1 into a perceptron 13-64-64-9 with GELU and
without biases; its output X made symmetric; tau = R X F^T, and F + 1e-3 R X for plasticity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tools.nclaw.plain_kernels import FEATURES, RATE

WIDTH = 64


class Decomposition(torch.autograd.Function):
    """F = R S to R and the stretches, falling, with slopes that are finite where stretches are equal."""

    @staticmethod
    def forward(ctx: Any, F: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, 3) to (n, 3, 3) and (n, 3)."""
        U, s, Vh = torch.linalg.svd(F)
        R = U @ Vh
        ctx.save_for_backward(R, s, Vh)
        return R, s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """DR = R V [y]x V^T with y_i = z_i/(s_j + s_k), z the axial vector of V^T (R^T dF - dF^T R) V; transposed."""
        R, s, Vh = ctx.saved_tensors
        M = R.mT @ grads[0]
        T = Vh @ (M - M.mT) @ Vh.mT
        spin = T / (s[:, :, None] + s[:, None, :])
        return R @ Vh.mT @ (spin + torch.diag_embed(grads[1])) @ Vh


def features(F: Tensor, stretches: Tensor) -> Tensor:
    """What the perceptron reads, (n, 13)."""
    eye = torch.eye(3, dtype=F.dtype)
    a, b, c = F.unbind(-2)
    J = (a * torch.linalg.cross(b, c)).sum(-1, keepdim=True)
    return torch.cat([stretches - 1, (F.mT @ F - eye).flatten(1), J - 1], 1)


class Perceptron(nn.Sequential):
    """13-64-64-9 with GELU, without biases.

    Args:
        draw: where the weights come from: uniform within 1/sqrt(inputs) of zero.
    """

    def __init__(self, draw: torch.Generator) -> None:
        layers = [nn.Linear(a, b, bias=False) for a, b in ((FEATURES, WIDTH), (WIDTH, WIDTH), (WIDTH, 9))]
        super().__init__(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        for layer in layers:
            bound = layer.in_features**-0.5
            with torch.no_grad():
                layer.weight.copy_(bound * (2 * torch.rand(layer.weight.shape, generator=draw) - 1))

    @property
    def linear(self) -> list[nn.Linear]:
        """The three layers."""
        return [layer for layer in self if isinstance(layer, nn.Linear)]

    def symmetric(self, F: Tensor, decompose: Any = Decomposition.apply) -> tuple[Tensor, Tensor]:
        """R and sym(X), (n, 3, 3)."""
        R, stretches = decompose(F)
        X = super().forward(features(F, stretches)).reshape(-1, 3, 3)
        return R, 0.5 * (X + X.mT)


def kirchhoff(elastic: Perceptron, F: Tensor, decompose: Any = Decomposition.apply) -> Tensor:
    """Tau = R sym(X) F^T [Pa], (n, 3, 3)."""
    R, X = elastic.symmetric(F, decompose)
    return R @ X @ F.mT


def flowed(plastic: Perceptron, F: Tensor, decompose: Any = Decomposition.apply) -> Tensor:
    """F + 1e-3 R sym(X), (n, 3, 3)."""
    R, X = plastic.symmetric(F, decompose)
    return F + RATE * (R @ X)
