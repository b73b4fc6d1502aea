"""Bodies whose shape is seen: their videos must exist, and say what one picture cannot."""

from __future__ import annotations

from physim.scene.document import Key
from physim.scene.problems import Findings, known
from physim.scene.spec import ScenePart
from physim.scene.spec_space import HullPart, OutlinePart


def check_seen_shapes(spec: ScenePart, findings: Findings) -> None:
    """Note what does not fit in outlines and hulls."""
    for name, body in spec.bodies.items():
        part, path = body.shape.shape_part, ("bodies", name, "shape", body.shape.kind)
        if isinstance(part, OutlinePart):
            _outline(spec, part, path, findings)
        elif isinstance(part, HullPart):
            _hull(spec, part, path, findings)


def _outline(spec: ScenePart, part: OutlinePart, path: Key, findings: Findings) -> None:
    known(findings, (*path, "video"), "video", part.video, spec.videos)
    if spec.dim == 3 and part.thickness is None and part.revolve is None:
        what = "one picture does not tell how deep a body is: add its `thickness`, or `revolve: y` if it is round"
        findings.add(path, what)
    for key in ("thickness", "revolve", "along"):
        if spec.dim == 2 and getattr(part, key) is not None:
            findings.add((*path, key), "in 2D the body is the outline itself, a metre deep; leave it out")


def _hull(spec: ScenePart, part: HullPart, path: Key, findings: Findings) -> None:
    for i, name in enumerate(part.videos):
        known(findings, (*path, "videos", i), "video", name, spec.videos)
        if name in part.videos[:i]:
            findings.add((*path, "videos", i), f"'{name}' is named twice")
    if spec.dim == 2:
        findings.add(path, "a hull needs `dim: 3`; in 2D use `outline`, of one video")
