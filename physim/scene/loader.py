"""A scene file to a validated scene in SI, or one error that lists everything to correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from physim.errors import InputError, nearest
from physim.scene.document import Document, Key, Where, display, read_document
from physim.scene.files import resolve_files
from physim.scene.includes import expand_includes
from physim.scene.materials import MaterialSpec, read_materials
from physim.scene.overrides import apply, apply_data, apply_text
from physim.scene.paths import find_scene
from physim.scene.problems import Findings, Problem, SceneError, translate
from physim.scene.references import check_references
from physim.scene.references_seen import check_seen_shapes
from physim.scene.spec import ScenePart
from physim.scene.suspicions import note_suspicions
from physim.scene.tables import Table, read_table


@dataclass(frozen=True)
class Scene:
    """A scene as its file and the overrides say, in SI.

    Attributes:
        file: the scene file.
        spec: every entry, typed, in SI.
        materials: laws and parameters by name.
        tables: data tables by name.
        document: the plain entries with their places, for messages and for the resolved copy.
        warnings: what is allowed, and probably not meant.
        overrides: what was given with `--set`.
        data: what was given with `--data`.
        recording: the recording whose settings hold, if one was chosen.
    """

    file: Path
    spec: ScenePart
    materials: dict[str, MaterialSpec]
    tables: dict[str, Table]
    document: Document = field(repr=False)
    warnings: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    recording: str | None = None

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return self.file.stem

    def where(self, path: Key) -> Where:
        """File and line of an entry."""
        return self.document.where(path)

    def error(self, path: Key, message: str) -> SceneError:
        """A mistake found later, told with its place in the file."""
        return SceneError([Problem(self.where(path), path, message)])

    def changed(self, overrides: Sequence[str] = (), *, recording: str | None = None) -> Scene:
        """The same file read again with further overrides, or with the settings of a recording."""
        return load_scene(
            self.file,
            (*self.overrides, *overrides),
            data=self.data,
            recording=recording if recording is not None else self.recording,
        )


def load_scene(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    data: Sequence[str] = (),
    recording: str | None = None,
) -> Scene:
    """Read and check a scene.

    Args:
        source: a path, or the name of a shipped scene.
        overrides: changes such as `materials.beam.E=80kPa`, in order.
        data: data files such as `tip=/home/me/tip.csv`, replacing typed-in tables.
        recording: apply the settings of this entry of `recordings`, before the overrides.

    Raises:
        SceneError: everything that is wrong, with file, line and YAML path.
        InputError: no such scene, or an override that does not fit it.
    """
    path = find_scene(source)
    document = read_document(path)
    expand_includes(document)
    if recording is not None:
        apply_recording(document, recording)
    for text in data:
        apply_data(document, text)
    for text in overrides:
        apply_text(document, text)
    expand_includes(document)
    findings = Findings(document)
    resolve_files(findings)
    materials = read_materials(findings)
    spec = validate(findings)
    if spec is None or findings.problems:
        findings.stop_if_any()
        raise InputError(f"{display(path)}: cannot be read.")
    found = {name: read_table(name, part, findings) for name, part in spec.data.items()}
    tables = {name: table for name, table in found.items() if table is not None}
    spec = check_references(spec, materials, tables, findings)
    check_seen_shapes(spec, findings)
    if spec.cameras:
        from physim.scene.cameras import read_cameras

        read_cameras(spec, findings)
    findings.stop_if_any()
    note_suspicions(spec, materials, findings)
    scene = Scene(
        path, spec, materials, tables, document, tuple(findings.warnings), tuple(overrides), tuple(data), recording
    )
    if recording is None:
        for name in spec.recordings:
            load_scene(source, overrides, data=data, recording=name)
    return scene


def apply_recording(document: Document, name: str) -> None:
    """Apply the `set` entries of one recording.

    Raises:
        InputError: no such recording, or an entry that does not fit.
    """
    recordings = document.data.get("recordings")
    known = recordings if isinstance(recordings, dict) else {}
    if name not in known:
        raise InputError(f"the scene has no recording '{name}'.{nearest(name, known)}")
    entries = known[name].get("set") if isinstance(known[name], dict) else None
    for target, value in (entries or {}).items() if isinstance(entries, dict) else ():
        path = ("recordings", name, "set", target)
        inner = {p[len(path) :]: w for p, w in document.places.items() if p[: len(path)] == path}
        apply(document, target, value, document.where(path), inner)


def validate(findings: Findings) -> ScenePart | None:
    """The typed scene, or None with the problems noted."""
    from pydantic import ValidationError

    data = findings.document.data
    context: dict[str, Any] = {"dim": data.get("dim", 3), "seen": {}}
    try:
        return ScenePart.model_validate(data, context=context)
    except ValidationError as error:
        translate(findings, error.errors(include_url=False), context["seen"])
        return None
