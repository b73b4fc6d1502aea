"""Generalised Maxwell relaxation: branches of a spring and a dashpot beside the elastic law.

The history of a branch is its elastic Hencky strain h, a symmetric deviator in the current frame. In a substep it is
carried along by the increment f of the deformation gradient and relaxes by exp(-x), x the substep over the relaxation
time. What is relaxed before and what after is shared so that the step is exact at any x both for a held deformation and
for stretching along fixed axes at a constant rate, never stiff, and of second order in dt otherwise.

A law is composed of a number of branches, the kind of their springs, and what may hasten their relaxation.
"""

from __future__ import annotations

import torch
import warp as wp

from physim.laws.core import InelasticLaw, Network, elastic_params, register
from physim.laws.parameters import Param
from physim.numeric import Numeric, Word, history, mat33, numeric, params, real
from physim.tensor import deviator, exp_m1, exp_sym, log_strain

# Bound by a law: how many branches, the stress and energy of their springs, and by what factor they relax faster for
# the strain of the body, and each for its own strain.
BRANCHES = 0
spring_stress = spring_energy = strain_haste = branch_haste = Word
# Components of a symmetric history in the order of the matrix they make.
ORDER = (0, 3, 4, 3, 1, 5, 4, 5, 2)
COMPONENTS = ("xx", "yy", "zz", "xy", "xz", "yz")


@numeric
def branch_strain(h: history, at: int) -> mat33:
    """The symmetric matrix of six components of the history, from `at` on."""
    return mat33(h[at], h[at + 3], h[at + 4], h[at + 3], h[at + 1], h[at + 5], h[at + 4], h[at + 5], h[at + 2])


@numeric
def carried(e: mat33, f: mat33, x: real) -> mat33:
    """Elastic Hencky strain of a branch after a substep of x relaxation times with the motion f."""
    still = x <= real(0.0)
    after = wp.where(still, real(1.0), -exp_m1(-x) / wp.where(still, real(1.0), x))
    before = wp.exp(-x) / after
    return after * deviator(log_strain(f @ exp_sym(before * e)))


@numeric
def maxwell_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """F = F_trial, and the branches carried along; theta holds (modulus, relaxation time) of each."""
    now = history()
    fast = dt * strain_haste(F_trial, f, theta)
    for k in range(BRANCHES):
        e = branch_strain(h, 6 * k)
        a = carried(e, f, fast * branch_haste(e, theta) / theta[2 * k + 1])
        now[6 * k] = a[0, 0]
        now[6 * k + 1] = a[1, 1]
        now[6 * k + 2] = a[2, 2]
        now[6 * k + 3] = a[0, 1]
        now[6 * k + 4] = a[0, 2]
        now[6 * k + 5] = a[1, 2]
    return F_trial, now


@maxwell_project.for_torch
def _maxwell_project_torch(F_trial, h, f, elastic, theta, dt):
    e = h.reshape(BRANCHES, 6)[:, ORDER].reshape(BRANCHES, 3, 3)
    fast = dt * strain_haste(F_trial, f, theta)

    def one(e, time):
        return carried(e, f, fast * branch_haste(e, theta) / time)

    a = torch.vmap(one)(e, theta[1 : 2 * BRANCHES : 2]).reshape(BRANCHES, 9)
    return F_trial, a[:, (0, 4, 8, 1, 2, 5)].reshape(6 * BRANCHES)


@numeric
def maxwell_overstress(F: mat33, h: history, theta: params) -> mat33:
    """Sum of the springs' stresses tau [Pa]."""
    total = spring_stress(theta[0], branch_strain(h, 0))
    for k in range(1, BRANCHES):
        total = total + spring_stress(theta[2 * k], branch_strain(h, 6 * k))
    return total


@numeric
def maxwell_stored(h: history, theta: params) -> real:
    """Sum of the springs' energies psi [J/m^3]."""
    total = spring_energy(theta[0], branch_strain(h, 0))
    for k in range(1, BRANCHES):
        total = total + spring_energy(theta[2 * k], branch_strain(h, 6 * k))
    return total


@numeric
def hencky_stress(G: real, e: mat33) -> mat33:
    """Stress tau = 2 G h [Pa]."""
    return real(2.0) * G * e


@numeric
def hencky_energy(G: real, e: mat33) -> real:
    """Energy psi = G h : h [J/m^3]."""
    return G * wp.ddot(e, e)


@numeric
def chain_stress(G: real, e: mat33) -> mat33:
    """Stress tau = G dev b [Pa] with b = exp(2 h): the spring is neo-Hookean."""
    return G * deviator(exp_sym(real(2.0) * e))


@numeric
def chain_energy(G: real, e: mat33) -> real:
    """Energy psi = G (tr b - 3)/2 [J/m^3]."""
    return real(0.5) * G * (wp.trace(exp_sym(real(2.0) * e)) - real(3.0))


@numeric
def steady_strain(F: mat33, f: mat33, theta: params) -> real:
    """Relaxation does not know the strain of the body."""
    return real(1.0)


@numeric
def steady_branch(e: mat33, theta: params) -> real:
    """Relaxation does not know the strain of the branch: the dashpot is linear."""
    return real(1.0)


SPRINGS = {"hencky": (hencky_stress, hencky_energy), "neo_hookean": (chain_stress, chain_energy)}
CITE = "Reese and Govindjee 1998, doi:10.1016/S0020-7683(97)00217-5, in Hencky strain"


def branch_params(branches: int) -> tuple[Param, ...]:
    """Modulus and relaxation time of each branch."""
    found = []
    for i in range(1, branches + 1):
        found.append(Param(f"branch_modulus_{i}", "Pa", doc=f"shear modulus of branch {i}", typical=3e4 / i))
        found.append(Param(f"relaxation_time_{i}", "s", doc=f"branch {i} relaxes to 1/e in it", typical=0.1 * i))
    return tuple(found)


def maxwell_law(
    name: str,
    branches: int,
    spring: str,
    summary: str,
    *,
    cite: str = f"{CITE}, with linear dashpots",
    strain: Numeric = steady_strain,
    branch: Numeric = steady_branch,
    network: Network | None = None,
) -> InelasticLaw:
    """Compose a law of relaxing branches.

    Args:
        name: of the law.
        branches: how many.
        spring: one of SPRINGS.
        summary: one line.
        cite: source.
        strain: `(F, f, theta) -> factor` by which all branches relax faster.
        branch: `(e, theta) -> factor` by which a branch with elastic Hencky strain e does.
        network: weights that these factors read, columns of theta after the branches'.
    """
    stress, energy = SPRINGS[spring]
    suffix = f"_{name}"
    history_names = tuple(f"strain_{i}_{c}" for i in range(1, branches + 1) for c in COMPONENTS)
    return InelasticLaw(
        name,
        branch_params(branches),
        maxwell_project.bound(suffix, BRANCHES=branches, strain_haste=strain, branch_haste=branch),
        cite,
        summary,
        history=history_names,
        rest_history=(0.0,) * len(history_names),
        overstress=maxwell_overstress.bound(suffix, BRANCHES=branches, spring_stress=stress),
        stored=maxwell_stored.bound(suffix, BRANCHES=branches, spring_energy=energy),
        network=network,
    )


def _maxwell(branches: int) -> InelasticLaw:
    several = "branches" if branches > 1 else "branch"
    summary = f"generalised Maxwell: {branches} relaxing {several} beside the elastic law"
    return register(maxwell_law(f"maxwell_{branches}", branches, "hencky", summary))


maxwell_1, maxwell_2, maxwell_3 = (_maxwell(n) for n in (1, 2, 3))
