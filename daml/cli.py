"""The command line: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daml import __version__, analysing, distribution, reproducing, showing
from daml.commands import Words, run
from daml.errors import DamlError, InputError
from daml.options import DEVICE, MODEL, OVERWRITE, RESUME, STORE, with_scheme

if TYPE_CHECKING:
    from daml.protocols import Scheme

IMPROVE = """\b
Examples:
  daml improve record.nc --model lorenz63 --store out.zarr
  daml improve record.nc --model model.py:MyModel --store out.zarr --passes 5 --resume
  daml improve record.nc --model lorenz63 --store out.zarr --scheme etkf --members 20
"""


@click.group(
    cls=Words, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__, prog_name=distribution.NAME)
def main() -> None:
    """Improve data-driven models with data assimilation.

    An error ends a command with one line and exit status 2. Ctrl-C ends it with the command that
    resumes the run and exit status 130. Without a terminal, a run prints a line for each pass.
    """
    distribution.check_folder()  # the other project may have overwritten the check of the import


@main.command()
@click.option(
    "--preset",
    default="fast",
    help="Size of the experiment: smoke (a minute), fast, or literal (hours).",
)
@click.option("--store", default="results/paper.zarr", help="Zarr store to write; a path or a URL.")
@click.option("--figures", "folder", default=None, help="Folder in which to draw Figures 1 to 4.")
@click.option("--seed", default=0, help="Seed of the truth, the noise and the training.")
@click.option("--passes", type=int, default=None, help="Number of passes, instead of the preset's.")
@click.option(
    "--epochs", type=int, default=None, help="Epochs of each training, instead of the preset's."
)
@click.option(
    "--window",
    type=int,
    default=None,
    help="Number of last states that the LSTM sees; by default it carries its memory.",
)
@click.option(
    "--warm-start/--no-warm-start",
    default=None,
    help="Whether each training starts from the weights of the one before, instead of the "
    "preset's way.",
)
@DEVICE
@OVERWRITE
@RESUME
@click.option(
    "--beyond",
    is_flag=True,
    help="Afterwards also train through the cycle, which the paper does not: LSTMs, and a model "
    "with hidden variables.",
)
@run
def paper(
    preset: str,
    store: str,
    folder: str | None,
    seed: int,
    passes: int | None,
    epochs: int | None,
    window: int | None,
    warm_start: bool | None,
    device: str,
    overwrite: bool,
    resume: bool,
    beyond: bool,
) -> None:
    """Run the experiment of the paper.

    It is that of Goodliff and Miyoshi (2025). The scores of its passes are printed.
    """
    from daml import paper as experiment
    from daml.experiments.reporting import score_table
    from daml.stores.folder import Folder

    if folder is not None:
        Folder(folder).check_writable()
    tree = experiment.run(
        preset,
        store=store,
        seed=seed,
        passes=passes,
        epochs=epochs,
        window=window,
        warm_start=warm_start,
        device=device,
        overwrite=overwrite,
        resume=resume,
        beyond=beyond,
    )
    click.echo(score_table(tree))
    click.echo(f"store: {store}")
    for path in experiment.draw(tree, folder) if folder is not None else ():
        click.echo(f"figure: {path}")


for command in (
    analysing.assimilate,
    analysing.schemes,
    analysing.models,
    showing.info,
    showing.figures,
    reproducing.reproduce,
):
    main.add_command(command)


@main.command(epilog=IMPROVE)
@click.argument("observations")
@MODEL
@STORE
@click.option(
    "--passes", default="auto", help="Number of passes; auto stops when passes no longer gain."
)
@click.option(
    "--epochs",
    type=int,
    default=None,
    help="Number of epochs of each training; by default from the record's length. With hidden "
    "variables an epoch is 25 updates.",
)
@click.option(
    "--emulator",
    "learner",
    default=None,
    help="What is trained: lstm; or augmented, which adds hidden variables to the state and needs "
    "--training cycle (its default with a model of up to 12 variables without a memory).",
)
@click.option("--seed", default=0, help="Seed of the training.")
@click.option(
    "--background",
    default=None,
    help="Source of the background covariance B. innovations: estimated in each pass (default); "
    "climatological: estimated once; model: predicted by the model (default of --training cycle "
    "with --emulator lstm). Hidden variables need none.",
)
@click.option(
    "--training",
    default="analyses",
    help="analyses: train on the analyses of the previous pass; cycle: train through the "
    "assimilation cycle, on the innovations.",
)
@click.option("--targets", default="analyses", help="What to train on: analyses, or smoothed.")
@click.option("--lag", type=int, help="Later model steps that smoothed targets use; default: all.")
@click.option(
    "--held-out",
    default=0.1,
    help="Fraction of the record that is not trained on and judges the passes.",
)
@DEVICE
@OVERWRITE
@RESUME
@run
@with_scheme
def improve(
    observations: str,
    model: str,
    store: str,
    passes: str,
    epochs: int | None,
    learner: str | None,
    seed: int,
    background: str | None,
    training: str,
    targets: str,
    lag: int | None,
    held_out: float,
    device: str,
    overwrite: bool,
    resume: bool,
    scheme: Scheme | None,
) -> None:
    """Improve a model with observations.

    OBSERVATIONS is a NetCDF file or a Zarr store with a record of them. Without --scheme they are
    assimilated by 3DVar, whose B --background chooses; with hidden variables by a filter of sigma
    points, which estimates them.
    """
    import daml
    from daml.experiments.reporting import innovation_table
    from daml.loop.defaults import emulator_for
    from daml.scripts import load_model
    from daml.stores.opening import open_record
    from daml.stores.store import Store, check_apart, check_free

    starting = load_model(model)
    if passes != "auto" and not passes.isdecimal():
        raise InputError(f"--passes is {passes!r}; give a whole number of 1 or more, or auto")
    if scheme is not None and background is not None:
        raise InputError(
            f"--background {background} is the B of the default scheme, and --scheme is given; "
            "leave it out, or give --scheme threedvar --set background_covariance="
            f"{background}"
        )
    chosen = scheme if background is None else daml.ThreeDVar(background)
    if not (resume and Store(store).made()):
        check_apart(store, observations)
        check_free(store, overwrite)
    record = open_record(observations)
    how: dict[str, Any] = {"epochs": epochs, "device": device, "seed": seed}
    network = emulator_for(starting, record, chosen, training, learner, **how)
    tree = daml.improve(
        starting,
        record,
        chosen,
        network,
        passes=passes if passes == "auto" else int(passes),
        held_out=held_out,
        training=training,
        targets=targets,
        lag=lag,
        store=store,
        overwrite=overwrite,
        resume=resume,
    )
    click.echo(innovation_table(tree))
    click.echo(f"store: {store}")


@main.command()
@click.argument("config")
@click.option("--store", default="results/sweep.zarr", help="Zarr store to write; a path or a URL.")
@click.option(
    "--scheduler", default=None, help="Address of the scheduler of a running Dask cluster."
)
@click.option(
    "--workers",
    type=int,
    default=None,
    help="Number of worker processes, if no --scheduler is given; default: one per core.",
)
@OVERWRITE
@click.option("--resume", is_flag=True, help="Run the members that the store lacks.")
@run
def sweep(
    config: str,
    store: str,
    scheduler: str | None,
    workers: int | None,
    overwrite: bool,
    resume: bool,
) -> None:
    """Run a grid of experiments.

    CONFIG is a TOML file: the paper's experiment is run for each combination of its parameters
    and seeds.
    """
    from daml.sweeps import sweeping
    from daml.sweeps.grid import read_config

    result = sweeping.sweep(
        **read_config(config),
        store=store,
        scheduler=scheduler,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
    )
    errors = [error for error in result["error"].values.ravel().tolist() if error]
    click.echo(sweeping.table(result))
    click.echo(f"failed: {len(errors)} of {result['error'].size} members")
    if len(errors) == result["error"].size:
        raise DamlError(
            f"all members failed, the first with {errors[0]}; see the variable 'error' in {store}"
        )
    click.echo(f"store: {store}")
