"""The command line: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daml import __version__, analysing, distribution, showing
from daml.commands import Words, run
from daml.errors import DamlError, InputError
from daml.options import DEVICE, FORCINGS, MODEL, OVERWRITE, RESUME, STORE, with_scheme

if TYPE_CHECKING:
    from daml.protocols import Scheme

PAPER = """\b
Examples:
  daml paper --preset smoke --store smoke.zarr --figures smoke
  daml paper --store results/paper.zarr --figures results
  daml paper --store results/paper.zarr --resume --passes 40
"""
SWEEP = """\b
Examples:
  daml sweep sweep.toml --store sweep.zarr --workers 4
  daml sweep sweep.toml --store sweep.zarr --resume
"""
IMPROVE = """\b
Examples:
  daml improve record.nc --model lorenz63 --store out.zarr
  daml improve record.nc --model model.py:MyModel --store out.zarr --passes 5 --resume
  daml improve record.nc --model lorenz63 --store out.zarr --scheme etkf --members 20
  daml improve record.nc --model lorenz63 --store out.zarr --training cycle
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


@main.command(epilog=PAPER)
@click.option(
    "--preset",
    default="fast",
    metavar="[smoke|fast|literal]",
    help="Size of the experiment: smoke takes a minute, fast 4 to 5 minutes, literal hours.",
)
@click.option(
    "--store",
    default="results/paper.zarr",
    metavar="PATH",
    help="Zarr store to write; a path or a URL.",
)
@click.option(
    "--figures",
    "folder",
    default=None,
    metavar="FOLDER",
    help="Folder in which to draw Figures 1 to 4. By default none is drawn.",
)
@click.option("--seed", default=0, help="Seed of the truth, the noise and the training.")
@click.option("--passes", type=int, default=None, help="Number of passes. Default: the preset's.")
@click.option(
    "--epochs",
    type=int,
    default=None,
    help="Number of epochs of each training. Default: the preset's.",
)
@click.option(
    "--window",
    type=int,
    default=None,
    help="Number of last states that the LSTM sees at each step. By default it carries its memory "
    "along the record instead.",
)
@click.option(
    "--warm-start/--no-warm-start",
    default=None,
    help="Whether each training starts from the weights of the one before. Default: the preset's.",
)
@DEVICE
@OVERWRITE
@RESUME
@click.option(
    "--beyond",
    is_flag=True,
    help="Also train through the assimilation cycle, which the paper does not: two LSTMs, and a "
    "model with hidden variables.",
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

    The paper is Goodliff and Miyoshi (2025). The command prints the scores of each pass.
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
):
    main.add_command(command)


@main.command(epilog=IMPROVE)
@click.argument("observations")
@MODEL
@STORE
@FORCINGS
@click.option(
    "--passes",
    default="auto",
    metavar="[auto|NUMBER]",
    help="Number of passes; auto stops when passes no longer gain.",
)
@click.option(
    "--epochs",
    type=int,
    default=None,
    help="Number of epochs of each training. By default it depends on the length of the record. "
    "With hidden variables an epoch is 25 updates.",
)
@click.option(
    "--emulator",
    "learner",
    default=None,
    metavar="[lstm|augmented]",
    help="What is trained: an LSTM that corrects the model, or a network that also adds hidden "
    "variables to the state, which needs --training cycle. Default: lstm; augmented with "
    "--training cycle and a model of up to 12 variables without a memory.",
)
@click.option("--seed", default=0, help="Seed of the training.")
@click.option(
    "--background",
    default=None,
    metavar="[innovations|climatological|model]",
    help="Where the background covariance B comes from: estimated from the innovations in each "
    "pass, estimated once from free runs of the model, or predicted by the network. Default: "
    "innovations; model with --training cycle and --emulator lstm. Hidden variables need no B.",
)
@click.option(
    "--training",
    default="analyses",
    metavar="[analyses|cycle]",
    help="Train on the analyses of the previous pass, or through the assimilation cycle on the "
    "innovations.",
)
@click.option(
    "--targets",
    default="analyses",
    metavar="[analyses|smoothed]",
    help="Train on the analyses themselves, or on analyses that later observations have smoothed.",
)
@click.option(
    "--lag",
    type=int,
    help="Number of later model steps that smoothed targets use. Default: all.",
)
@click.option(
    "--held-out",
    default=0.1,
    help="Fraction of the record that is not trained on and serves to judge the passes.",
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
    forcings: str | None,
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

    OBSERVATIONS is a NetCDF file or a Zarr store with a record of them. Without --scheme, daml
    assimilates them by 3DVar with the B of --background, or, with hidden variables, by a filter of
    sigma points. The command prints the scores of each pass and the pass that it chose.
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
    given = None if forcings is None else open_record(forcings)
    how: dict[str, Any] = {"epochs": epochs, "device": device, "seed": seed, "forcings": given}
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
        forcings=given,
        store=store,
        overwrite=overwrite,
        resume=resume,
    )
    click.echo(innovation_table(tree))
    click.echo(f"store: {store}")


@main.command(epilog=SWEEP)
@click.argument("config")
@click.option(
    "--store",
    default="results/sweep.zarr",
    metavar="PATH",
    help="Zarr store to write; a path or a URL.",
)
@click.option(
    "--scheduler",
    default=None,
    metavar="ADDRESS",
    help="Address of the scheduler of a running Dask cluster.",
)
@click.option(
    "--workers",
    type=int,
    default=None,
    help="Number of worker processes, if no --scheduler is given. Default: one per core.",
)
@OVERWRITE
@click.option("--resume", is_flag=True, help="Run the experiments that the store lacks.")
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
