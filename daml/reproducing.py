"""The command that runs an experiment other than the paper's own."""

from __future__ import annotations

import click

from daml.commands import run
from daml.options import OVERWRITE, pairs

RUN = """\b
Examples:
  daml run brajard2020 --preset smoke --figures brajard
  daml run amemiya2023 --store amemiya.zarr --seed 1
  daml run brajard2020 --set passes=4 --set fewer=8,12
  daml run lorenz96 --preset smoke --figures ring
"""


@click.command(name="run", epilog=RUN)
@click.argument("name", metavar="[brajard2020|amemiya2023|bocquet_brajard|lorenz96]")
@click.option(
    "--preset",
    default="fast",
    metavar="[smoke|fast|literal]",
    help="Size of the experiment: smoke takes a minute, fast some ten minutes, literal hours.",
)
@click.option(
    "--store",
    default=None,
    metavar="PATH",
    help="Zarr store to write, a path or a URL. Default: results/NAME.zarr.",
)
@click.option(
    "--figures",
    "folder",
    default=None,
    metavar="FOLDER",
    help="Folder in which to draw the figures. By default none is drawn.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting in place of the preset's, such as --set passes=4. It may be repeated.",
)
@click.option("--seed", default=0, help="Seed of all random numbers.")
@OVERWRITE
@click.option("--resume", is_flag=True, help="Resume the run in the store after its last part.")
@run
def reproduce(
    name: str,
    preset: str,
    store: str | None,
    folder: str | None,
    settings: tuple[str, ...],
    seed: int,
    overwrite: bool,
    resume: bool,
) -> None:
    """Run the experiment NAME, and print its scores.

    NAME is brajard2020, a network that learns Lorenz 96 from sparse observations; amemiya2023,
    networks that correct a model without its fast scale; bocquet_brajard, networks that correct a
    model without a cubic term; or lorenz96, the loop of Goodliff and Miyoshi (2025) on Lorenz 96.
    daml paper runs the experiment of Goodliff and Miyoshi (2025) itself.
    """
    from daml.experiments.known import experiment
    from daml.experiments.presets import changed
    from daml.stores.folder import Folder

    known = experiment(name)
    if folder is not None:
        Folder(folder).check_writable()
    store = f"results/{name}.zarr" if store is None else store
    texts, size = pairs(settings, "passes=4"), preset
    if texts and preset in known.PRESETS:
        size = changed(known.PRESETS[preset], texts)
    tree = known.run(size, store=store, seed=seed, overwrite=overwrite, resume=resume)
    click.echo(known.table(tree))
    click.echo(f"store: {store}")
    for path in known.draw(tree, folder) if folder is not None else ():
        click.echo(f"figure: {path}")
