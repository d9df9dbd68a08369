"""The command line: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daml import __version__, analysing, distribution, improving, outlook, reproducing, showing
from daml.commands import Words, run
from daml.errors import DamlError
from daml.options import DEVICE, OVERWRITE, RESUME

if TYPE_CHECKING:
    pass

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


@click.group(
    cls=Words, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(__version__, prog_name=distribution.NAME)
def main() -> None:
    """Improve data-driven models with data assimilation.

    An error ends a command with one line and exit status 2. Ctrl-C ends it with exit status 130,
    and prints the command that resumes the run. Without a terminal, a run prints one line per pass.
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
    improving.improve,
    analysing.assimilate,
    outlook.forecast,
    analysing.schemes,
    analysing.models,
    showing.info,
    showing.figures,
    reproducing.reproduce,
):
    main.add_command(command)


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

    CONFIG is a TOML file, whose table [grid] has a list of values for each parameter. The paper's
    experiment is run for each combination of these values and for each seed.
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
