"""Commands that show what a store holds, and run nothing."""

from __future__ import annotations

from typing import Any

import click

from daml.commands import run

INFO = """\b
Example:
  daml info out.zarr
"""
FIGURES = """\b
Examples:
  daml figures out.zarr --figures drawn
  daml figures results/paper.zarr --only 2
"""


@click.command(epilog=INFO)
@click.argument("store")
@run
def info(store: str) -> None:
    """Print the settings, the progress and the scores of an experiment in a STORE."""
    from daml.experiments.reporting import overview
    from daml.stores.attributes import reading
    from daml.stores.opening import open_tree

    with reading(store):
        text = overview(open_tree(store))
    click.echo(text)


@click.command(epilog=FIGURES)
@click.argument("source")
@click.option(
    "--figures", "folder", default="figures", metavar="FOLDER", help="Folder to draw into."
)
@click.option(
    "--only", type=int, default=None, help="Number of the only figure to draw. Default: all."
)
@run
def figures(source: str, folder: str, only: int | None) -> None:
    """Draw the figures of an experiment.

    SOURCE is the store of an experiment, or a NetCDF file (.nc) with scores from
    daml.reports.collect. Nothing is run.
    """
    from daml import paper
    from daml.experiments.known import experiment_of
    from daml.stores.attributes import reading
    from daml.stores.opening import open_record, open_tree

    with reading(source):
        scores: Any = open_record(source) if source.endswith(".nc") else open_tree(source)
        known = experiment_of(scores) if only is None else None
        paths = paper.draw(scores, folder, only) if known is None else known.draw(scores, folder)
    for path in paths:
        click.echo(f"figure: {path}")
