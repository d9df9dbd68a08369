"""The command line: parse, call, print."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from daml import __version__
from daml.errors import DamlError, InputError, first_line


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn daml's errors into one line and exit code 2, unless --debug asks for the traceback."""

    @click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
    @functools.wraps(command)
    def wrapped(debug: bool, **arguments: Any) -> None:
        try:
            command(**arguments)
        except (DamlError, PermissionError) as error:
            if debug:
                raise
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            sys.exit(2)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daml")
def main() -> None:
    """Improve data-driven models with data assimilation."""


@main.command()
@click.option("--preset", default="fast", show_default=True, help="smoke, fast or literal.")
@click.option("--store", default="results/paper.zarr", show_default=True, help="Zarr store.")
@click.option("--figures", "folder", default=None, help="Draw Figures 1-4 into this folder.")
@click.option("--seed", default=0, show_default=True, help="Of truth, noise and training.")
@click.option("--passes", type=int, default=None, help="In place of the preset's.")
@click.option("--device", default="cpu", show_default=True, help="Of the LSTM: cpu or cuda.")
@click.option("--overwrite", is_flag=True, help="Replace a store that daml wrote.")
@click.option("--resume", is_flag=True, help="Go on with a store where a run was interrupted.")
@click.option("--beyond", is_flag=True, help="Then train through the cycle, beyond the paper.")
@_told
def paper(
    preset: str,
    store: str,
    folder: str | None,
    seed: int,
    passes: int | None,
    device: str,
    overwrite: bool,
    resume: bool,
    beyond: bool,
) -> None:
    """Run the experiment of Goodliff and Miyoshi (2025) and score it."""
    from daml import paper as experiment
    from daml.reports import score_table

    tree = experiment.run(
        preset,
        store=store,
        seed=seed,
        passes=passes,
        device=device,
        overwrite=overwrite,
        resume=resume,
        beyond=beyond,
    )
    click.echo(score_table(tree))
    click.echo(f"store: {store}")
    for path in experiment.draw(tree, folder) if folder is not None else ():
        click.echo(f"figure: {path}")


@main.command()
@click.argument("observations")
@click.option("--model", required=True, help="lorenz63, coupled-lorenz63 or FILE.py:CLASS.")
@click.option("--store", required=True, help="Zarr store to write.")
@click.option("--passes", default="auto", show_default=True, help="LSTM-0 to LSTM-(N-1), or auto.")
@click.option("--epochs", type=int, default=None, help="Of each training.")
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@click.option(
    "--background",
    default=None,
    help="Where B comes from: innovations, in each pass (the default); climatological, once; or "
    "the model that is trained through the cycle (the default there).",
)
@click.option(
    "--training",
    default="analyses",
    show_default=True,
    help="On the analyses of the pass before, or through the cycle.",
)
@click.option(
    "--held-out",
    default=0.1,
    show_default=True,
    help="Part of the record that judges the passes and is not trained on.",
)
@click.option("--device", default="cpu", show_default=True, help="Of the LSTM: cpu or cuda.")
@click.option("--overwrite", is_flag=True, help="Replace a store that daml wrote.")
@click.option("--resume", is_flag=True, help="Go on with a store where a run was interrupted.")
@_told
def improve(
    observations: str,
    model: str,
    store: str,
    passes: str,
    epochs: int | None,
    seed: int,
    background: str | None,
    training: str,
    held_out: float,
    device: str,
    overwrite: bool,
    resume: bool,
) -> None:
    """Improve a model with a record of OBSERVATIONS (NetCDF or Zarr), without any truth."""
    import daml
    from daml.opening import open_record
    from daml.reports import innovation_table
    from daml.store import Store, check_free

    starting = load_model(model)
    if passes != "auto" and not passes.isdigit():
        raise InputError(f"--passes is {passes}; give 1 or more, or auto")
    if not (resume and Store(store).made()):
        check_free(store, overwrite)
    tree = daml.improve(
        starting,
        open_record(observations),
        None if background is None else daml.ThreeDVar(background),
        daml.LSTM(
            epochs=epochs,
            cycle_epochs=epochs,
            base=starting,
            device=device,
            seed=seed,
            covariance="predicted" if training == "cycle" else None,
        ),
        passes=passes if passes == "auto" else int(passes),
        held_out=held_out,
        training=training,
        store=store,
        overwrite=overwrite,
        resume=resume,
    )
    click.echo(innovation_table(tree))
    click.echo(f"store: {store}")


@main.command()
@click.argument("store")
@_told
def info(store: str) -> None:
    """Say what is in a STORE, how far it is, and its scores."""
    from daml.opening import open_tree
    from daml.reports import overview

    click.echo(overview(open_tree(store)))


@main.command()
@click.argument("store")
@click.option("--figures", "folder", default="figures", show_default=True, help="Where to.")
@_told
def figures(store: str, folder: str) -> None:
    """Draw the figures of a STORE again, without running anything."""
    from daml import paper as experiment
    from daml.opening import open_tree

    for path in experiment.draw(open_tree(store), folder):
        click.echo(f"figure: {path}")


@main.command()
@click.argument("config")
@click.option("--store", default="results/sweep.zarr", show_default=True, help="Zarr store.")
@click.option("--scheduler", default=None, help="Address of a Dask cluster that exists.")
@click.option("--workers", type=int, default=None, help="Of a cluster made here: a core each.")
@click.option("--overwrite", is_flag=True, help="Replace a store that daml wrote.")
@click.option("--resume", is_flag=True, help="Go on with a store where a sweep was interrupted.")
@_told
def sweep(
    config: str,
    store: str,
    scheduler: str | None,
    workers: int | None,
    overwrite: bool,
    resume: bool,
) -> None:
    """Run the experiment over the grid of parameters and seeds of a CONFIG (TOML)."""
    from daml import grids, sweeps

    result = sweeps.sweep(
        **grids.read_config(config),
        store=store,
        scheduler=scheduler,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
    )
    errors = [error for error in result["error"].values.ravel().tolist() if error]
    click.echo(sweeps.table(result))
    click.echo(f"failed: {len(errors)} of {result['error'].size} members")
    if len(errors) == result["error"].size:
        raise DamlError(f"all members failed, the first with {errors[0]}; see 'error' in {store}")
    click.echo(f"store: {store}")


def load_model(name: str) -> Any:
    """Give the model of a name, or of FILE.py:CLASS, called without arguments.

    Raises
    ------
    InputError
        If there is none of that name, or the script has no such class or breaks.
    """
    from daml.checks import check_settings
    from daml.models import CoupledLorenz63, Lorenz63

    known: dict[str, Any] = {"lorenz63": Lorenz63, "coupled-lorenz63": CoupledLorenz63}
    if name in known:
        return known[name]()
    path, colon, kind = name.rpartition(":")
    if not colon:
        raise InputError(f"--model {name!r} is unknown; give {', '.join(known)} or FILE.py:CLASS")
    if not Path(path).is_file():
        raise InputError(f"--model: {path} is not there; check the path of the script")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"--model: {path} is no Python script; give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise InputError(
            f"--model: {path} ends the program when it is imported; put what it runs under: "
            "if __name__ == '__main__':"
        ) from error
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"--model: {path} breaks: {type(error).__name__}: {reason}") from error
    if not hasattr(module, kind):
        raise InputError(f"--model: {path} has no class {kind!r}; check its name")
    try:
        model = getattr(module, kind)()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"--model: {kind}() breaks: {type(error).__name__}: {first_line(error)}; it is called "
            "without arguments"
        ) from error
    check_settings(model)  # its step is tried at the times of the record
    return model
