"""The laws without any hand-written adjoint: every derivative is what Warp generates from the formula.

Functions that iterate until they converge, or that choose between a series and eigenvectors, have no generated adjoint
worth the name; here they are sums and iterations of fixed length instead. That serves moderate strains only (stretches
within 0.6 to 1.7), and is slow: it is for checking the adjoints that physim runs.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import warp as wp

from physim.laws.compose import Composition
from physim.numeric import Numeric, mat33, numeric, real, rebind
from physim.tensor import identity, left_strain, sym
from physim.tensor.matrices import cofactor


@numeric
def fixed_polar(F: mat33) -> mat33:
    """The rotation of F by ten Newton steps."""
    R = F
    for _step in range(10):
        R = real(0.5) * R + (real(0.5) / wp.determinant(R)) * cofactor(R)
    return R


@numeric
def fixed_log(F: mat33) -> mat33:
    """log(F F^T)/2 as 33 terms of atanh(Z), Z = C (2 I + C)^-1, C = F F^T - I."""
    C = left_strain(F)
    Z = C @ wp.inverse(real(2.0) * identity() + C)
    Q = Z @ Z
    S = (real(1.0) / real(65.0)) * identity()
    # Loops of up to 16 rounds are unrolled, which generated adjoints need.
    for j in range(2):
        for k in range(16):
            S = (real(1.0) / real(63 - 32 * j - 2 * k)) * identity() + Q @ S
    return sym(Z @ S)


@numeric
def fixed_exp(A: mat33) -> mat33:
    """exp(A) of a symmetric A as 16 terms of Taylor's sum."""
    T = identity()
    for k in range(15):
        T = identity() + (real(1.0) / real(16 - k)) * (A @ T)
    return identity() + sym(A @ T)


REPLACED = {"polar_rotation": fixed_polar, "log_strain": fixed_log, "exp_sym": fixed_exp}


@cache
def plain(function: Numeric) -> Numeric:
    """The same function, and all that it calls, without hand-written adjoints."""
    source = REPLACED.get(function.name, function).source
    called = {n: source.__globals__.get(n) for n in source.__code__.co_names}
    names = {n: plain(f) for n, f in called.items() if isinstance(f, Numeric)}
    return Numeric(rebind(source, names, "_plain"))


@cache
def plain_laws(laws: Composition) -> Composition:
    """The laws of a material in plain functions."""
    # Warp knows functions by name: what is made of these laws must not be taken for what physim makes.
    elastic, viscous, inelastic = laws.elastic, laws.viscous, laws.inelastic
    elastic = dataclasses.replace(elastic, name=f"plain_{elastic.name}", kirchhoff=plain(elastic.kirchhoff))
    if viscous:
        viscous = dataclasses.replace(viscous, kirchhoff=plain(viscous.kirchhoff))
    if inelastic:
        over = plain(inelastic.overstress) if inelastic.overstress else None
        inelastic = dataclasses.replace(inelastic, project=plain(inelastic.project), overstress=over)
    return Composition(elastic, viscous, inelastic)


def by_hand(laws: Composition) -> list[str]:
    """Functions of a material's laws that have hand-written adjoints in physim."""
    found: list[str] = []

    def visit(function: Numeric | None) -> None:
        if function is None:
            return
        if function._adjoint is not None:
            if function.name not in found:
                found.append(function.name)
            return
        source = function.source
        for name in source.__code__.co_names:
            called = source.__globals__.get(name)
            if isinstance(called, Numeric):
                visit(called)

    visit(laws.elastic.kirchhoff)
    visit(laws.viscous.kirchhoff if laws.viscous else None)
    visit(laws.inelastic.project if laws.inelastic else None)
    visit(laws.inelastic.overstress if laws.inelastic else None)
    return found
