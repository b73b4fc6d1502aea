"""What each solver needs of a scene, and what it does not know."""

from __future__ import annotations

from physim.scene.build_space import MIRRORS, walls_of
from physim.scene.problems import Findings, known
from physim.scene.spec import ScenePart
from physim.scene.spec_measure import ForcePart


def required(spec: ScenePart, findings: Findings) -> None:
    """Note what a scene's solver needs and lacks, or does not know."""
    if spec.solver == "none":
        if not spec.tables:
            findings.add(("solver",), "`solver: none` fits stress-stretch tables; add a `tables` section")
        return
    for section in ("grid", "time"):
        if getattr(spec, section) is None:
            findings.add((section,), f"required with `solver: {spec.solver}`, and missing")
    if not spec.bodies:
        findings.add(("bodies",), f"required with `solver: {spec.solver}`, and missing or empty")
    grid = spec.grid
    if spec.solver == "mpm" and grid is not None and (grid.origin is None or not (grid.upper or grid.size)):
        findings.add(("grid",), "needs `origin` and `upper` (or `size`): the region where material may be")
    if spec.solver == "mpm" and spec.loads:
        findings.add(("loads",), "loads need `solver: solid`")
    if spec.pose is not None:
        _pose(spec, findings)
    if spec.solver != "insr":
        _mirrors(spec, findings)
    if spec.solver == "insr":
        _field(spec, findings)
    elif spec.field is not None:
        findings.add(("field",), "a field needs `solver: insr`")
    if spec.solver == "solid":
        for name in spec.colliders:
            findings.add(("colliders", name), "`solver: solid` has clamps and mirrored walls, no colliders; use mpm")


def _mirrors(spec: ScenePart, findings: Findings) -> None:
    """Mirrored walls that would have to move across themselves."""
    for side, part in walls_of(spec).items():
        if part.type in MIRRORS and part.velocity and part.velocity["xyz".index(side[0])]:
            findings.add(
                ("walls", side, "velocity"),
                f"a mirrored wall moves along itself only with `solver: {spec.solver}`; push with `slip`, pull "
                "with a clamp",
            )


def _field(spec: ScenePart, findings: Findings) -> None:
    """What the weight-space solver does not know."""
    if len(spec.bodies) > 1:
        findings.add(("bodies",), f"`solver: insr` simulates one body, and there are {len(spec.bodies)}")
    for section in ("clamps", "loads"):
        if getattr(spec, section):
            findings.add((section,), "`solver: insr` holds bodies by mirrored walls on their faces; use solid")
    if spec.grid is not None and spec.grid.periodic:
        findings.add(("grid", "periodic"), "`solver: insr` has walls on all sides; use mpm")
    for name in ("blend", "volume_filter"):
        if getattr(spec, name) is not None:
            findings.add((name,), "is for `solver: mpm`")
    for name in spec.fit.parameters if spec.fit is not None else ():
        if name.split(".")[0] != "materials":
            findings.add(("fit", "parameters", name), "with `solver: insr` numbers of materials can be fitted only")


def _pose(spec: ScenePart, findings: Findings) -> None:
    """A deflected start needs a solid, gravity, and a reading of positions."""
    assert spec.pose is not None
    if spec.solver != "solid":
        findings.add(("pose",), "a pose needs `solver: solid`")
    if not any(spec.gravity):
        findings.add(("pose",), "a pose is held by gravity, and `gravity` is zero")
    if spec.pose.observe is None:
        return
    if known(findings, ("pose", "observe"), "observation", spec.pose.observe, spec.observe):
        if isinstance(spec.observe[spec.pose.observe], ForcePart):
            findings.add(("pose", "observe"), "expected an observation of positions, got a force")
