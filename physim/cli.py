"""The command line: arguments in, one call into a room, its result or one clean message out.

Nothing heavy is imported before a command runs, so that `physim --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from physim import __version__
from physim.cli_video import add_video_commands
from physim.terminal import fail, report, say, warn

if TYPE_CHECKING:
    from physim.parallel import Ranks
    from physim.scene.film import Film

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
add_video_commands(app)

SceneName = Annotated[str, Parameter(help="A scene file, or the name of a shipped scene (`physim scenes`).")]
Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative="", help="Change an entry: `--set materials.beam.E=80kPa`. Repeatable."),
]
Data = Annotated[
    tuple[str, ...],
    Parameter(name="--data", negative="", help="Read a table from a file: `--data tip=/home/me/tip.csv`. Repeatable."),
]
Out = Annotated[Path, Parameter(help="Folder in which the result folder is made.")]


@app.command
def fit(
    scene: SceneName,
    *,
    set_: Set = (),
    data: Data = (),
    out: Out = Path("runs"),
    resume: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Find the material parameters, with intervals, that explain the measurements of a scene.

    `torchrun --nproc-per-node 4 -m physim fit scene.yaml` shares recordings and starts among four processes.

    Args:
        resume: Go on with an interrupted fit: the newest of this scene, or that of --folder.
        folder: Result folder of the fit to resume.
        threads: Simulations that run at the same time in one process.
        device: `cpu`, or `cuda` for a GPU: one per process under torchrun.
    """
    quiet_warp()
    from physim.fit.learn.scene import learn_scene, learns
    from physim.fit.run import fit_scene
    from physim.parallel import ranks
    from physim.scene.loader import load_scene

    with ranks(device=device) as team, spoken_by_first(team):
        loaded = load_scene(scene, set_, data=data)
        if team.first:
            warn(loaded.warnings)
        resumed = folder if folder is not None else resume
        place = str(team.device)
        if learns(loaded):
            result = learn_scene(loaded, out=out, resume=resumed, ranks=team, device=place)
        else:
            result = fit_scene(loaded, out=out, resume=resumed, threads=threads, ranks=team, device=place, draw=drawn)
        if team.first:
            for line in result.lines():
                say(line)
            say(f"results in {result.folder}; open {result.folder}/report.html")
    if not result.as_expected:
        sys.exit(1)


@contextmanager
def spoken_by_first(team: Ranks) -> Iterator[None]:
    """Let the first of several processes print an error that ends them all, and the others leave after it."""
    from physim.errors import PhysimError
    from physim.parallel import Lost

    try:
        with team.together():
            yield
    except PhysimError as error:
        if team.size == 1:
            raise
        if team.first:
            fail(str(error))
        if not isinstance(error, Lost):
            # torchrun ends all processes as soon as one has left.
            with suppress(PhysimError), team.together():
                pass
        sys.exit(exit_code(error))


def drawn(folder: Path, films: Sequence[Film]) -> dict[str, bytes]:
    """Films of a result folder and of its videos beside what was simulated, and pictures as PNG bytes by caption."""
    from physim.view.comparison import write_comparisons
    from physim.view.run_folder import film_of, picture_of

    found = write_comparisons(films, folder)
    film_of(folder)
    last = picture_of(folder).read_bytes()
    return {**found, "The fitted simulation at its last frame; the film is rollout.mp4.": last}


@app.command
def run(
    scene: SceneName,
    *,
    set_: Set = (),
    data: Data = (),
    recording: str | None = None,
    out: Out = Path("runs"),
    device: str = "cpu",
    picture: bool = True,
    states: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Simulate a scene and keep its frames, gauges, final state and a picture.

    Args:
        recording: Apply the settings of this recording of the scene.
        device: `cpu`, or `cuda:0` for a GPU.
        picture: Draw the last frame.
        states: Also keep the full state of all particles at every frame, to learn a law from.
    """
    quiet_warp()
    from physim.scene.kernel_cache import compiled
    from physim.scene.loader import load_scene
    from physim.scene.run import run_scene
    from physim.view.console import Progress
    from physim.view.run_folder import picture_of

    loaded = load_scene(scene, set_, data=data, recording=recording)
    warn(loaded.warnings)
    with Progress(loaded.name, cold=compiled() == 0) as show:
        result = run_scene(loaded, out, device=device, states=states, progress=show.advance, ready=show.ready)
    warn(result.warnings)
    for line in result.lines():
        say(line)
    if picture:
        picture_of(result.folder)
    say(f"results in {result.folder}; `physim render {result.folder}` makes a film")
    if not result.as_expected:
        sys.exit(1)


@app.command
def render(
    folder: Path,
    *,
    out: Path | None = None,
    png: Annotated[bool, Parameter(negative="")] = False,
    maps: Annotated[bool, Parameter(negative="")] = False,
    color: str = "speed",
    fps: float = 30.0,
    playback: float | None = None,
) -> None:
    """Draw a result folder as a film (mp4), or as a picture of the last frame (png).

    Args:
        folder: A folder that `physim run` made.
        out: File to write; in the result folder unless given.
        png: A picture instead of a film.
        maps: Maps of a field of `solver: insr`, with what is left of its equation at each point.
        color: What colours the particles: speed, J (volume ratio) or body.
        fps: Pictures per second of the film.
        playback: Simulated seconds per second of film; every saved frame once unless given.
    """
    from physim.view.field_maps import maps_of
    from physim.view.run_folder import film_of, picture_of

    if maps:
        say(f"wrote {maps_of(folder, out)}")
    elif png or (out is not None and out.suffix == ".png"):
        say(f"wrote {picture_of(folder, out, color=color)}")
    else:
        say(f"wrote {film_of(folder, out, color=color, fps=fps, playback=playback)}")


@app.command
def scenes(*, schema: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the shipped scenes.

    Args:
        schema: Print the JSON schema of scene files, for an editor, instead.
    """
    if schema:
        import json

        from physim.scene.schema import scene_schema

        say(json.dumps(scene_schema(), indent=2))
        return
    from physim.scene.catalogue import list_scenes

    for entry in list_scenes():
        say(f"{entry.name:24} {entry.title}")


@app.command
def doctor(
    *,
    bench: Annotated[bool, Parameter(negative="")] = False,
    against: Path | None = None,
    json: Path | None = None,
) -> None:
    """Show device, versions, threads and the state of the kernel cache; with --bench also how fast this machine is.

    Args:
        bench: Measure for ten seconds, compare with a machine that we have measured, and say why it differs.
        against: Compare with this file instead; --json on another machine writes one.
        json: Also write what was measured.
    """
    from physim.scene.doctor import examine

    for name, value in examine():
        say(f"{name:14} {value}")
    if bench or against or json:
        measure_speed(against, json)


def measure_speed(against: Path | None, json: Path | None) -> None:
    """Measure how fast this machine is, and compare."""
    quiet_warp()
    from physim.scene.kernel_cache import compiled
    from physim.speed.survey import reference, survey, write
    from physim.speed.verdict import table, verdict

    other = reference(against)
    say("")
    say("measuring for ten seconds" + ("" if compiled() else ", after compiling kernels for a minute or two"))
    found = survey()
    for line in (*table(found, other), *verdict(found, other)):
        say(line)
    if json:
        write(found, json)
        say(f"written to {json}")


@check.command(name="scene")
def check_scene(scene: SceneName, *, set_: Set = (), data: Data = ()) -> None:
    """Read and build a scene without running it: every mistake, or its size and time step."""
    quiet_warp()
    from physim.scene.build import build
    from physim.scene.build_video import picture_lines
    from physim.scene.loader import load_scene
    from physim.scene.video_views import video_doubts

    loaded = load_scene(scene, set_, data=data)
    warn(loaded.warnings)
    if loaded.spec.solver == "none":
        say(f"{loaded.name}: sound; {len(loaded.tables)} tables, nothing to simulate.")
        return
    built = build(loaded)
    warn(built.warnings)
    lines = (*built.summary(), *picture_lines(built))
    warn(video_doubts(loaded))
    for line in lines:
        say(line)


@check.command(name="law")
def check_law(
    *names: str, all_: Annotated[bool, Parameter(name="--all", negative="")] = False, single: bool = False
) -> None:
    """Check the physics of laws: objectivity, isotropy, rest state, energy, symmetry, dissipation, tangent.

    Args:
        names: Laws, or material files.
        all_: Every registered law.
        single: In single precision, in which simulations run, instead of double.
    """
    quiet_warp()
    from physim.scene.verify import verify_laws

    report(verify_laws(None if all_ else names, single=single))


@app.command
def explain(
    name: str,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    strain: float | None = None,
    tolerance: float = 0.01,
) -> None:
    """Write the energy of a learned law, or of any elastic one, as a short formula with numbers and errors.

    Args:
        name: A material file, or the name of a shipped material.
        out: Material file of the formula to write.
        strain: Largest Hencky strain to look at; what the file says of its training unless given.
        tolerance: Error of the stress, as a share, that is good enough.
    """
    quiet_warp()
    from physim.fit.explain import explain as explained

    found = explained(name, strain=strain, tolerance=tolerance)
    for line in found.lines():
        say(line)
    if out is not None:
        found.write(out)
        say(f"wrote {out}")


@check.command(name="grad")
def check_grad(scene: SceneName, *, set_: Set = (), at: float = 0.5, substeps: int = 40) -> None:
    """Compare the gradients of a scene with central differences in double precision.

    Args:
        at: Share of the scene's duration at which the differentiated rollout starts.
        substeps: Length of that rollout.
    """
    quiet_warp()
    from physim.fit.gradcheck import check_gradients

    report((str(row), row.ok) for row in check_gradients(scene, overrides=set_, at=at, substeps=substeps))


@material.command(name="plot")
def material_plot(
    *names: str, out: Path = Path("material.png"), test: str = "uniaxial", stretch: tuple[float, float] = (0.7, 1.5)
) -> None:
    """Plot stress against stretch of material files or shipped materials.

    Args:
        names: Material files, or names of shipped materials.
        out: Picture to write.
        test: uniaxial, equibiaxial, pure_shear or simple_shear.
        stretch: Range of the stretch.
    """
    from physim.view.material import plot_materials

    say(f"wrote {plot_materials(names, out, test=test, stretch=stretch)}")


@material.command(name="list")
def material_list() -> None:
    """List the shipped materials."""
    from physim.scene.catalogue import list_materials

    for entry in list_materials():
        say(f"{entry.name:24} {entry.title}")


def quiet_warp() -> None:
    """Keep Warp's banner off the terminal."""
    from physim.scene.kernel_cache import quiet_warp

    quiet_warp()


def exit_code(error: Exception) -> int:
    """2 for mistakes in the input, 1 for other failures."""
    from physim.errors import InputError, StabilityError

    return 2 if isinstance(error, (InputError, StabilityError)) else 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; mistakes in the input exit with 2, other failures with 1."""
    from cyclopts import CycloptsError

    from physim.errors import PhysimError

    try:
        app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except PhysimError as error:
        fail(str(error))
        sys.exit(exit_code(error))
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        fail("interrupted.")
        sys.exit(130)
