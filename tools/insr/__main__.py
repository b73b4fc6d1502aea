"""Tables of the weight-space solver, each beside what is required of it: `python -m tools.insr TABLE`."""

from __future__ import annotations

import argparse
import importlib
import sys

TABLES = {
    "advection": "a pulse carried along, beside Adam as published and the formula that Adam follows",
    "vortices": "Taylor-Green, a flow of two modes that moves, vortices of two sizes",
    "bases": "sine networks, Fourier features and Gaussians at about equal weights",
    "bytes": "error against memory, beside a spectral method and finite differences",
    "cavity": "a lid-driven cavity at Re 100 to its steady state, beside published values",
    "stretch": "a square pulled to twice its length and blocks in contact, beside finite elements",
    "traps": "what goes wrong with few points, points that do not integrate, fine waves, no damping, single precision",
    "gradients": "derivatives by viscosity against closed forms and differences, and a fit",
}
MODULES = {name: f"tools.insr.{'error_per_byte' if name == 'bytes' else name}" for name in TABLES}


def main(argv: list[str] | None = None) -> int:
    """Run one table; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.insr", description=__doc__)
    parser.add_argument("table", choices=TABLES, help="; ".join(f"{name}: {what}" for name, what in TABLES.items()))
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    # Each table adds its own options once it is known which is asked for.
    given, _ = parser.parse_known_args(argv)
    table = importlib.import_module(MODULES[given.table])
    table.options(parser)
    args = parser.parse_args(argv)

    import torch

    from tools.insr.tables import machine

    torch.set_num_threads(args.threads)
    print(machine())
    return table.run(args)


if __name__ == "__main__":
    sys.exit(main())
