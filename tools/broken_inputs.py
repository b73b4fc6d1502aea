"""What physim says to broken inputs: `python -m tools.broken_inputs` prints the message of each.

A case that raises nothing, or anything but a `PhysimError`, makes the command fail.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from tools.broken_videos import CASES as VIDEO_CASES

SCENE = """\
title: A block
solver: mpm
dim: 3
grid: {origin: [0, 0, 0], upper: [0.4, 0.4, 0.4], dx: 2 cm}
gravity: [0, -9.81, 0]
time: {duration: 20 ms, dt: auto, frame: 10 ms}
materials:
  gel: {law: neo_hookean, E: 50 kPa, nu: 0.3, density: 1000 kg/m^3}
bodies:
  block:
    shape: {box: {lower: [0.1, 0.1, 0.1], upper: [0.2, 0.2, 0.2]}}
    material: gel
walls: {all: slip}
observe:
  height: {kind: position, body: block, direction: [0, 1, 0], noise: 1 mm, data: fall}
data:
  fall:
    columns: {time: ms, height: mm}
    rows: [[0, 150], [10, 149.5], [20, 148]]
"""
SECOND = """
  other:
    shape: {box: {lower: [0.15, 0.15, 0.15], upper: [0.3, 0.3, 0.3]}}
    material: gel
walls:"""
OPEN_MESH = """solid open
facet normal 0 0 1
outer loop
vertex 0.1 0.1 0.1
vertex 0.2 0.1 0.1
vertex 0.1 0.2 0.1
endloop
endfacet
endsolid open
"""
TABLES = """\
title: A rubber band
solver: none
materials:
  band: {law: neo_hookean, E: 500 kPa, nu: 0.49}
data:
  pull:
    columns: {stretch: "-", stress: kPa}
    rows: [[1, 0], [1.2, 100], [1.5, 200], [2, 330]]
tables:
  pull: {test: uniaxial, material: band, data: pull}
fit:
  parameters:
    materials.band.E: {start: 200 kPa}
"""

# name: text in the scene, and what it becomes.
EDITS = {
    "misspelt key": ("material: gel", "materail: gel"),
    "misspelt value": ("{all: slip}", "{all: slipp}"),
    "name with a dot": ("gel: {law", "gel.soft: {law"),
    "name with a slash": ("  height: {kind", "  top/height: {kind"),
    "name that begins with a digit": ("  block:\n", "  2block:\n"),
    "unknown law": ("neo_hookean", "neohokean"),
    "misspelt parameter": ("nu: 0.3", "poisson: 0.3"),
    "wrong unit": ("E: 50 kPa", "E: 50 mm"),
    "unknown unit": ("E: 50 kPa", "E: 50 kPsi"),
    "impossible value": ("nu: 0.3", "nu: 0.6"),
    "density that looks like g/cm^3": ("1000 kg/m^3", "1"),
    "size that looks like millimetres": ("[0.2, 0.2, 0.2]", "[200, 200, 200]"),
    "missing key": ("title: A block\n", ""),
    "broken YAML": ("gravity: [0, -9.81, 0]", "gravity: [0, -9.81, 0"),
    "number with a comma": ("1 mm,", "'1,5 mm',"),
    "dt too large": ("dt: auto", "dt: 2 ms"),
    "negative spacing": ("dx: 2 cm", "dx: -2 cm"),
    "particles outside the grid": ("upper: [0.2, 0.2, 0.2]", "upper: [0.2, 0.2, 0.6]"),
    "two materials on one particle": ("\nwalls:", SECOND),
    "NaN in data": ("149.5", ".nan"),
    "empty observation": ("[[0, 150], [10, 149.5], [20, 148]]", "[]"),
    "times that go back": ("[20, 148]", "[5, 148]"),
    "missing data file": ("rows: [[0, 150], [10, 149.5], [20, 148]]", "file: fall.csv"),
    "a path that escapes": ("rows: [[0, 150], [10, 149.5], [20, 148]]", "file: ../../etc/passwd"),
    "missing mesh": ("{box: {lower: [0.1, 0.1, 0.1], upper: [0.2, 0.2, 0.2]}}", "{mesh: {file: bunny.stl}}"),
    "open mesh": ("{box: {lower: [0.1, 0.1, 0.1], upper: [0.2, 0.2, 0.2]}}", "{mesh: {file: open.stl}}"),
    "unknown body": ("body: block", "body: blok"),
    "nothing to fit": ("observe:", "fit: {parameters: {materials.gel.G: {}}}\nobserve:"),
    "a moved wall between nodes": ("{all: slip}", "{y_min: {type: mirror_slip, position: 3 mm}}"),
}


def read_and_build(folder: Path, text: str) -> None:
    """Load a scene and build its model and solver."""
    from physim.scene.build import build
    from physim.scene.loader import load_scene

    path = folder / "block.yaml"
    path.write_text(text)
    (folder / "open.stl").write_text(OPEN_MESH)
    scene = load_scene(path)
    build(scene)
    for warning in scene.warnings:
        warnings.warn(warning, stacklevel=2)


def edited(old: str, new: str) -> Callable[[Path], None]:
    """A case that changes one place of the scene."""
    assert old in SCENE, old
    return lambda folder: read_and_build(folder, SCENE.replace(old, new, 1))


def missing_scene(folder: Path) -> None:
    """A scene that does not exist."""
    from physim.scene.loader import load_scene

    load_scene("jely_drop")


def unknown_override(folder: Path) -> None:
    """An override of an entry that does not exist."""
    from physim.scene.loader import load_scene

    load_scene("jelly_drop", ["materials.jely.E=20kPa"])


def truncated_checkpoint(folder: Path) -> None:
    """Resuming from a folder in which every checkpoint was cut short."""
    from physim.fit.run import fit_scene

    path = folder / "band.yaml"
    path.write_text(TABLES)
    result = fit_scene(path, out=folder / "runs", quiet=True)
    for file in (result.folder / "checkpoints").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    fit_scene(path, out=folder / "runs", resume=result.folder, quiet=True)


CASES: dict[str, Callable[[Path], None]] = {name: edited(*pair) for name, pair in EDITS.items()}
CASES |= {"missing scene": missing_scene, "unknown override": unknown_override}
CASES |= {"truncated checkpoint": truncated_checkpoint}


def told(case: Callable[[Path], None]) -> tuple[bool, str]:
    """Whether a case is refused in words, and the words."""
    from physim.errors import PhysimError

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case(Path(folder))
        except PhysimError as error:
            text = str(error)
        else:
            text = "; ".join(str(w.message) for w in caught)
        return bool(text), text.replace(f"{folder}/", "")


def main() -> None:
    """Print every case with its message."""
    from physim.scene.kernel_cache import quiet_warp

    quiet_warp()
    silent = []
    for title, cases in {"Scenes": CASES, "Videos": VIDEO_CASES}.items():
        sys.stdout.write(f"{title}\n")
        for number, (name, case) in enumerate(cases.items(), start=1):
            spoken, text = told(case)
            sys.stdout.write(f"{number:2d}. {name}\n      " + (text or "(accepted)").replace("\n", "\n      ") + "\n")
            if not spoken:
                silent.append(name)
    if silent:
        sys.exit(f"accepted without a word: {', '.join(silent)}")


if __name__ == "__main__":
    main()
