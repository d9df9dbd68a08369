"""The command that runs a published experiment."""

from __future__ import annotations

import click

from daml.commands import run
from daml.options import OVERWRITE


@click.command(name="run")
@click.argument("name")
@click.option("--preset", default="fast", help="Size: smoke (a minute), fast, or literal (hours).")
@click.option(
    "--store",
    default=None,
    help="Zarr store to write; default: results/NAME.zarr. A path or a URL.",
)
@click.option("--figures", "folder", default=None, help="Folder in which to draw the figure.")
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
    """Run the published experiment NAME, and print its scores.

    NAME is brajard2020, a network that learns Lorenz 96 from sparse observations, or amemiya2023,
    networks that correct a model without its fast scale. See daml paper for the experiment of
    Goodliff and Miyoshi (2025).
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
