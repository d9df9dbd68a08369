"""The command that forecasts from the end of an analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daml.commands import run
from daml.errors import InputError, StoreError
from daml.options import EMULATOR, FORCINGS, ONE_MODEL, one_model

if TYPE_CHECKING:
    import xarray as xr

FORECAST = """\b
Examples:
  daml forecast etkf.zarr --model lorenz63 --leads 48 --output ahead.nc
  daml forecast etkf.zarr --model lorenz63 --leads 48 --output ahead.zarr \\
      --figure ahead.png
  daml forecast analysis.zarr --emulator out.zarr --leads 10 --output ahead.nc
"""


@click.command(epilog=FORECAST)
@click.argument("result")
@ONE_MODEL
@EMULATOR
@click.option("--leads", type=int, required=True, help="Number of model steps to forecast.")
@click.option(
    "--members",
    type=int,
    default=None,
    help="Number of members to draw around the last analysis, if the scheme has a single state "
    "and gives a spread. An ensemble has its own members.",
)
@click.option("--seed", default=0, help="Seed of the drawn members and of the model errors.")
@FORCINGS
@click.option(
    "--output",
    required=True,
    metavar="FILE.nc|STORE.zarr",
    help="NetCDF file, or Zarr store, to write the forecast to.",
)
@click.option(
    "--figure",
    default=None,
    metavar="FILE.png",
    help="File in which to draw the mean and the spread of up to five variables.",
)
@click.option(
    "--fields", is_flag=True, help="Write the forecast as fields, for a model with a template."
)
@run
def forecast(
    result: str,
    model: str | None,
    emulator: str | None,
    leads: int,
    members: int | None,
    seed: int,
    forcings: str | None,
    output: str,
    figure: str | None,
    fields: bool,
) -> None:
    """Forecast from the end of an analysis, beyond its record.

    RESULT is the store or the NetCDF file of an analysis by daml assimilate. Each member of an
    ensemble is forecast; the command writes their mean, their spread and the members.
    """
    import daml
    from daml.stores.opening import open_record

    for option, path in (("--output", output), ("--figure", figure)):
        if path is not None:
            _check_new(option, path)
    _check_kind("--output", output, (".nc", ".zarr"))
    if figure is not None:
        _check_kind("--figure", figure, (".png", ".pdf", ".svg"))
    stepping = one_model(model, emulator, "forecast")
    if fields and getattr(stepping, "template", None) is None:
        raise InputError(
            f"--fields: {type(stepping).__name__} has no 'template', without which its state "
            "cannot be written as fields; leave --fields out"
        )
    given = None if forcings is None else open_record(forcings)
    how: dict[str, Any] = {"leads": leads, "members": members, "seed": seed, "forcings": given}
    ahead = daml.forecast_ahead(stepping, open_record(result), **how)
    _write(daml.unflatten(ahead) if fields else ahead, output)
    ends = ahead["time"].values[[0, -1]]
    first, last = (f"{time:.10g}" if ends.dtype.kind == "f" else str(time) for time in ends)
    click.echo(f"forecast: {leads} steps, from {first} to {last}")
    if "member" in ahead.dims:
        click.echo(f"members: {ahead.sizes['member']}")
    click.echo(f"output: {output}")
    if figure is not None:
        _draw(ahead, figure)
        click.echo(f"figure: {figure}")


def _check_new(option: str, path: str) -> None:
    """Refuse a path where something is, or whose folder is not there."""
    if Path(path).exists():
        raise InputError(f"{option}: {path} exists; give another path, or remove it")
    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"{option}: the folder of {path} does not exist; make it first")


def _check_kind(option: str, path: str, endings: tuple[str, ...]) -> None:
    """Refuse a path that ends in another way."""
    if Path(path).suffix not in endings:
        raise InputError(f"{option} {path}: give a name that ends in {' or '.join(endings)}")


def _write(found: xr.Dataset | xr.DataTree, output: str) -> None:
    """Write a forecast, or its fields, as NetCDF or into a Zarr store."""
    from daml.stores.folder import Folder
    from daml.stores.opening import no_warnings

    where = Folder(output)
    try:
        if output.endswith(".nc"):
            found.to_netcdf(output, engine="h5netcdf")
        else:
            with no_warnings(), where.aside() as aside:
                found.to_zarr(aside.address)
    except OSError as error:
        where.path.unlink(missing_ok=True)  # a part of a file; nothing was there before
        raise StoreError(f"--output {output}: cannot be written ({error})") from error


def _draw(ahead: xr.Dataset, path: str) -> None:
    """Draw a forecast into a file."""
    from daml.figures import plume

    try:
        plume(ahead).savefig(path, dpi=200)
    except OSError as error:
        raise StoreError(f"--figure {path}: cannot be written ({error})") from error
