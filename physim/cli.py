"""The command line: arguments in, one call into a room, its result or one clean message out.

Nothing heavy is imported before a command runs, so that `physim --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from physim import __version__

app = App(
    name="physim",
    version=__version__,
    help="Differentiable particle-grid simulation that reads material laws from motion.",
    help_flags=["--help", "-h"],
)
check = App(name="check", help="Check a law, a gradient or a scene.")
material = App(name="material", help="Look at material laws.")
app.command(check)
app.command(material)

SceneName = Annotated[str, Parameter(help="A scene file, or the name of a shipped scene (`physim scenes`).")]
Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative="", help="Change an entry: `--set materials.beam.E=80kPa`. May be repeated."),
]
Data = Annotated[
    tuple[str, ...],
    Parameter(name="--data", negative="", help="Read a table from a file: `--data tip=/path/tip.csv`. May be repeated."),
]
Out = Annotated[Path, Parameter(help="Folder in which the result folder is made.")]


@app.command
def fit(scene: SceneName, *, set_: Set = (), data: Data = (), out: Out = Path("runs"), resume: Path | None = None) -> None:
    """Find material parameters, with intervals, that explain measurements.

    Args:
        resume: a result folder of an interrupted fit; it goes on where it stopped.
    """
    from physim.fit.run import fit_scene

    folder = fit_scene(scene, overrides=set_, data=data, out=out, resume=resume)
    say(f"Results in {folder}")


@app.command
def run(
    scene: SceneName,
    *,
    set_: Set = (),
    data: Data = (),
    out: Out = Path("runs"),
    device: str = "cpu",
    picture: bool = True,
) -> None:
    """Simulate a scene and keep its frames, gauges, final state and a picture.

    Args:
        device: `cpu`, or `cuda:0` for a GPU.
        picture: draw the last frame.
    """
    from physim.scene.loader import load_scene
    from physim.scene.run import run_scene
    from physim.view.console import compiling, frame_bar

    loaded = load_scene(scene, set_, data=data)
    warn(loaded.warnings)
    with compiling(device), frame_bar(loaded.name) as progress:
        result = run_scene(loaded, out, device=device, progress=progress)
    for line in result.lines():
        say(line)
    if picture:
        from physim.view.run_folder import picture_of

        picture_of(result.folder)
    say(f"Results in {result.folder}")
    if not result.as_expected:
        sys.exit(1)


@app.command
def render(
    folder: Path,
    *,
    out: Path | None = None,
    png: bool = False,
    color: str = "speed",
    fps: float = 30.0,
    playback: float = 1.0,
) -> None:
    """Draw a result folder as a film (mp4) or as a picture of the last frame (png).

    Args:
        folder: a folder that `physim run` made.
        out: file to write; in the result folder unless given.
        png: a picture instead of a film.
        color: what colours the particles: speed, body.
        fps: pictures per second.
        playback: simulated seconds per second of film; 0.1 is slow motion.
    """
    from physim.view.run_folder import film_of, picture_of

    if png or (out is not None and out.suffix == ".png"):
        say(f"Wrote {picture_of(folder, out, color=color)}")
    else:
        say(f"Wrote {film_of(folder, out, color=color, fps=fps, playback=playback)}")


@app.command
def scenes(*, schema: bool = False) -> None:
    """List the shipped scenes, or print the JSON schema of scene files for an editor.

    Args:
        schema: print the schema instead.
    """
    if schema:
        import json

        from physim.scene.schema import scene_schema

        say(json.dumps(scene_schema(), indent=2))
        return
    from physim.scene.catalogue import list_scenes

    for entry in list_scenes():
        say(f"{entry.name:20} {entry.title}")


@app.command
def init(path: Path = Path("scene.yaml"), *, force: bool = False) -> None:
    """Write a first, commented scene file.

    Args:
        path: file to write.
        force: replace a file that exists.
    """
    from physim.scene.starter import write_starter

    write_starter(path, force=force)
    say(f"Wrote {path}. Try: physim run {path}")


@app.command
def doctor() -> None:
    """Show device, versions, threads and the state of the kernel cache."""
    from physim.scene.doctor import examine

    for name, value in examine():
        say(f"{name:16} {value}")


@check.command(name="scene")
def check_scene(scene: SceneName, *, set_: Set = (), data: Data = ()) -> None:
    """Read and build a scene without running it: every mistake, or its size and time step."""
    from physim.scene.build import build
    from physim.scene.loader import load_scene

    loaded = load_scene(scene, set_, data=data)
    warn(loaded.warnings)
    if loaded.spec.solver == "none":
        say(f"{loaded.name}: sound; {len(loaded.tables)} tables, nothing to simulate.")
        return
    for line in build(loaded).summary():
        say(line)


@check.command(name="law")
def check_law(name: str | None = None, *, all_: Annotated[bool, Parameter(name="--all")] = False) -> None:
    """Check the physics of a law: objectivity, isotropy, rest state, energy, symmetry, dissipation, tangent.

    Args:
        name: the law.
        all_: every law.
    """
    from physim.laws.check import check_laws

    report(check_laws(None if all_ or name is None else [name]))


@check.command(name="grad")
def check_grad(scene: SceneName, *, set_: Set = ()) -> None:
    """Compare the gradient of a scene with central differences in double precision."""
    from physim.fit.gradcheck import check_gradients

    report(check_gradients(scene, overrides=set_))


@material.command(name="plot")
def material_plot(names: tuple[str, ...], *, out: Path = Path("material.png")) -> None:
    """Plot stress against stretch for material files or shipped materials.

    Args:
        names: material files or names.
        out: picture to write.
    """
    from physim.view.material import plot_materials

    say(f"Wrote {plot_materials(names, out)}")


def report(lines: Any) -> None:
    """Print the rows of a check; exit with 1 if any failed."""
    failed = False
    for row in lines:
        say(str(row))
        failed = failed or not row.ok
    if failed:
        sys.exit(1)


def say(text: str) -> None:
    """Print one line of a result."""
    sys.stdout.write(text + "\n")


def warn(messages: Sequence[str]) -> None:
    """Print warnings to standard error."""
    if messages:
        from rich.console import Console
        from rich.text import Text

        for message in messages:
            Console(stderr=True).print(Text("warning: ", style="yellow") + Text(message), soft_wrap=True)


def fail(message: str) -> None:
    """Print one error to standard error."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; mistakes in the input exit with 2, other failures with 1."""
    from cyclopts import CycloptsError

    from physim.errors import InputError, PhysimError, StabilityError

    try:
        app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except (InputError, StabilityError) as error:
        fail(str(error))
        sys.exit(2)
    except PhysimError as error:
        fail(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        fail("interrupted.")
        sys.exit(130)
