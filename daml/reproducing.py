"""The command that runs an experiment other than the paper's own."""

from __future__ import annotations

import click

from daml.commands import run
from daml.options import OVERWRITE

RUN = """\b
Examples:
  daml run brajard2020 --preset smoke --figures brajard
  daml run amemiya2023 --store amemiya.zarr --seed 1
  daml run lorenz96 --preset smoke --figures ring
"""


@click.command(name="run", epilog=RUN)
@click.argument("name", metavar="[brajard2020|amemiya2023|lorenz96]")
@click.option(
    "--preset",
    default="fast",
    metavar="[smoke|fast|literal]",
    help="Size: a minute, some ten minutes, or hours.",
)
@click.option(
    "--store",
    default=None,
    help="Zarr store to write; default: results/NAME.zarr. A path or a URL.",
)
@click.option("--figures", "folder", default=None, help="Folder in which to draw the figures.")
@click.option("--seed", default=0, help="Seed of all that is random.")
@OVERWRITE
@click.option("--resume", is_flag=True, help="Resume the run in the store after its last part.")
@run
def reproduce(
    name: str,
    preset: str,
    store: str | None,
    folder: str | None,
    seed: int,
    overwrite: bool,
    resume: bool,
) -> None:
    """Run the experiment NAME, and print its scores.

    NAME is brajard2020, a network that learns Lorenz 96 from sparse observations, or amemiya2023,
    networks that correct a model without its fast scale, as published; or lorenz96, the loop of
    Goodliff and Miyoshi (2025) on Lorenz 96, for which daml paper runs their own experiment.
    """
    from daml.experiments.known import experiment
    from daml.stores.folder import Folder

    known = experiment(name)
    if folder is not None:
        Folder(folder).check_writable()
    store = f"results/{name}.zarr" if store is None else store
    tree = known.run(preset, store=store, seed=seed, overwrite=overwrite, resume=resume)
    click.echo(known.table(tree))
    click.echo(f"store: {store}")
    for path in known.draw(tree, folder) if folder is not None else ():
        click.echo(f"figure: {path}")
