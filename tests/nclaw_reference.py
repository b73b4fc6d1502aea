"""NCLaw's standard scenes as an independent float64 program: NumPy only, no line shared with the engine.

Written from the published description (Ma et al. 2023, arXiv:2304.14369): 20^3 nodes at 0.05 i in the unit cube,
substeps of 5e-4 s, a cube of 1,000 particles thrown with spin, separating slip walls three nodes deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DT, DX, NODES, GRAVITY = 5e-4, 0.05, 20, np.array([0.0, -9.8, 0.0])
EYE = np.eye(3)
STENCIL = np.stack(np.meshgrid(*[range(3)] * 3, indexing="ij"), -1).reshape(27, 3)


@dataclass(frozen=True)
class Constants:
    """Young's modulus [Pa], Poisson's ratio, yield stress [Pa], friction angle [deg] of one material."""

    E: float
    nu: float
    yield_stress: float = 0.0
    friction_angle: float = 0.0

    @property
    def mu(self) -> float:
        return self.E / (2 * (1 + self.nu))

    @property
    def lam(self) -> float:
        return self.E * self.nu / ((1 + self.nu) * (1 - 2 * self.nu))


MATERIALS = {
    "jelly": Constants(1e5, 0.2),
    "plasticine": Constants(3e5, 0.25, yield_stress=5e3),
    "sand": Constants(1e6, 0.2, friction_angle=25.0),
    "water": Constants(1e5, 0.3),
}


def start() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [m], velocities [m/s], (1000, 3), and reference volumes [m^3] of the thrown cube."""
    line = np.linspace(0.25, 0.75, 10)
    x = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    v = np.array([1.0, -1.5, -2.0]) + np.cross(np.array([4.0, 4.0, 4.0]), x - 0.5)
    return x, v, np.full(len(x), 0.125 / len(x))


def stress(name: str, c: Constants, F: np.ndarray) -> np.ndarray:
    """Kirchhoff stress [Pa], (n, 3, 3)."""
    J = np.linalg.det(F)[:, None, None]
    if name == "water":
        return c.lam * J * (J - 1) * EYE
    U, s, Vt = np.linalg.svd(F)
    if name == "jelly":
        return 2 * c.mu * (F - U @ Vt) @ F.transpose(0, 2, 1) + c.lam * J * (J - 1) * EYE
    eps = np.log(s)
    tau = 2 * c.mu * eps + c.lam * eps.sum(1, keepdims=True)
    return (U * tau[:, None, :]) @ U.transpose(0, 2, 1)


def project(name: str, c: Constants, F: np.ndarray) -> np.ndarray:
    """The plastic map."""
    if name == "jelly":
        return F
    if name == "water":
        return np.cbrt(np.linalg.det(F))[:, None, None] * EYE
    U, s, Vt = np.linalg.svd(F)
    eps = np.log(s)
    trace = eps.sum(1, keepdims=True)
    dev = eps - trace / 3
    size = np.linalg.norm(dev, axis=1, keepdims=True)
    direction = dev / np.maximum(size, 1e-300)
    if name == "plasticine":
        excess = size - c.yield_stress / (2 * c.mu)
        eps = eps - np.maximum(excess, 0) * direction
    else:
        sin = np.sin(np.radians(c.friction_angle))
        alpha = np.sqrt(2 / 3) * 2 * sin / (3 - sin)
        excess = size + (3 * c.lam + 2 * c.mu) / (2 * c.mu) * trace * alpha
        eps = np.where(trace >= 0, 0.0, eps - np.maximum(excess, 0) * direction)
    return (U * np.exp(eps)[:, None, :]) @ Vt


def simulate(name: str, steps: int) -> np.ndarray:
    """Positions [m] after `steps` steps, (1000, 3)."""
    c = MATERIALS[name]
    x, v, volume = start()
    mass = 1000.0 * volume
    C, F = np.zeros((len(x), 3, 3)), np.tile(EYE, (len(x), 1, 1))
    index = np.stack(np.meshgrid(*[range(NODES)] * 3, indexing="ij"), -1)
    low, high = index < 3, index > NODES - 3
    for _ in range(steps):
        base = np.floor(x / DX - 0.5).astype(int)
        f = x / DX - base
        w1 = np.stack([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1) ** 2, 0.5 * (f - 0.5) ** 2])
        w = w1[STENCIL[:, 0], :, 0] * w1[STENCIL[:, 1], :, 1] * w1[STENCIL[:, 2], :, 2]  # (27, n)
        d = (STENCIL[:, None, :] - f) * DX
        node = np.ravel_multi_index(tuple(np.moveaxis(base + STENCIL[:, None, :], -1, 0)), (NODES,) * 3)
        A = -DT * 4 / DX**2 * volume[:, None, None] * stress(name, c, F) + mass[:, None, None] * C
        push = w[:, :, None] * (mass[:, None] * v + np.einsum("pij,spj->spi", A, d))
        grid_p, grid_m = np.zeros((NODES**3, 3)), np.zeros(NODES**3)
        np.add.at(grid_p, node.ravel(), push.reshape(-1, 3))
        np.add.at(grid_m, node.ravel(), (w * mass).ravel())
        u = (grid_p / (grid_m + 1e-7)[:, None] + GRAVITY * DT).reshape(*[NODES] * 3, 3)
        u = np.where(low, np.maximum(u, 0), np.where(high, np.minimum(u, 0), u)).reshape(-1, 3)[node]
        v = np.einsum("sp,spi->pi", w, u)
        C = 4 / DX**2 * np.einsum("sp,spi,spj->pij", w, u, d)
        x = np.clip(x + DT * v, 0.5 * DX, 1 - 0.5 * DX)
        F = project(name, c, (EYE + DT * C) @ F)
    return x
