"""Commands that assimilate, and that say which schemes there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daml.commands import run
from daml.errors import InputError, name_of
from daml.options import EMULATOR, FORCINGS, ONE_MODEL, STORE, one_model, with_scheme

if TYPE_CHECKING:
    import xarray as xr

    from daml.protocols import Model, Scheme

ASSIMILATE = """\b
Examples:
  daml assimilate record.nc --model lorenz63 --store 3dvar.zarr
  daml assimilate record.nc --model lorenz63 --store etkf.zarr \\
      --scheme etkf --members 20 --inflation 1.02 --rotate
  daml assimilate record.nc --model lorenz96 --store letkf.zarr \\
      --scheme letkf --members 7 --set radius=7.28
  daml assimilate tomorrow.nc --model lorenz63 --continue 3dvar.zarr --store next.zarr
"""
SCHEME = "scheme"
"""The group of a store that holds what was found of the scheme."""
FEW = 5
"""Variables that are listed by their names."""
SCHEMES = """\b
Examples:
  daml schemes
  daml schemes letkf
"""


@click.command(epilog=ASSIMILATE)
@click.argument("observations")
@ONE_MODEL
@EMULATOR
@STORE
@FORCINGS
@click.option(
    "--continue",
    "before",
    default=None,
    metavar="STORE",
    help="Store of an earlier analysis, with the same model and scheme, from whose end to "
    "continue. Settings that were estimated for it, such as B, are taken from there.",
)
@click.option(
    "--segments",
    type=int,
    default=None,
    help="Number of segments into which the record is cut, which are assimilated side by side. "
    "1 does not cut the record. Default: segments of 100 to 500 steps.",
)
@click.option(
    "--spinup",
    type=int,
    default=None,
    help="Number of steps by which a segment starts early. Default: 100, or more if "
    "observations are rare.",
)
@click.option(
    "--fields",
    default=None,
    metavar="FILE.nc",
    help="NetCDF file to which the analysis is also written as fields, for a model with a "
    "template.",
)
@click.option("--keep-members", is_flag=True, help="Also write the members of an ensemble scheme.")
@run
@with_scheme
def assimilate(
    observations: str,
    model: str | None,
    emulator: str | None,
    store: str,
    before: str | None,
    forcings: str | None,
    scheme: Scheme | None,
    segments: int | None,
    spinup: int | None,
    fields: str | None,
    keep_members: bool,
) -> None:
    """Assimilate observations with a model.

    OBSERVATIONS is a NetCDF file or a Zarr store with a record of them. The command writes the
    analysis to a new store, and prints how far its forecasts are from the observations. Arguments
    that the scheme leaves open are first estimated from the innovations: without --scheme, the B
    of 3DVar.
    """
    import daml
    from daml.stores.filling import write
    from daml.stores.opening import open_record
    from daml.stores.places import place
    from daml.stores.store import check_apart

    stepping, record = one_model(model, emulator, "assimilate"), open_record(observations)
    initial = None if before is None else open_record(before)
    given = None if forcings is None else open_record(forcings)
    if fields is not None:
        _check_fields(stepping, fields)
    check_apart(store, observations)
    if place(store).exists():
        raise InputError(f"{store} exists; give another path, or remove it")
    place(store).check_writable(replaced=False)
    chosen: Any = daml.ThreeDVar() if scheme is None else scheme
    is_open = bool(getattr(chosen, "open", ()))
    if is_open and before is not None:
        chosen = _found(chosen, before)
    elif is_open:
        chosen, _ = daml.tuned(chosen, stepping, record, forcings=given)
    analysis = daml.assimilate(
        *(stepping, record, chosen),
        segments=segments,
        spinup=spinup,
        initial=initial,
        forcings=given,
        keep_members=keep_members,
        store=store,
    )
    if is_open:
        write(chosen.to_dataset(), store, SCHEME)
    click.echo(_summary(analysis))
    click.echo(f"store: {store}")
    if fields is not None:
        daml.unflatten(analysis).to_netcdf(fields)
        click.echo(f"fields: {fields}")


def _found(scheme: Any, before: str) -> Scheme:
    """Give a scheme with what was found of it for the analysis in a store."""
    import xarray as xr

    from daml.stores.places import place

    try:
        dataset = xr.open_zarr(place(before).address, group=SCHEME, consolidated=False)
        found: Scheme = scheme.restored(dataset.load())
    except Exception as error:
        raise InputError(
            f"--continue {before}: {type(scheme).__name__} leaves {scheme.open[0]!r} to be "
            "estimated, and the store has no estimate of it; give a store that daml "
            "assimilate wrote with the same scheme, or give the setting a value"
        ) from error
    return found


def _check_fields(model: Model, path: str) -> None:
    """Refuse to write fields, to a path, that the model does not have, or over a file."""
    if getattr(model, "template", None) is None:
        raise InputError(
            f"--fields {path}: {name_of(model)} has no 'template', without which its state "
            "cannot be written as fields; leave --fields out"
        )
    if Path(path).exists():
        raise InputError(f"--fields: {path} exists; give another path, or remove it")
    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"--fields: the folder of {path} does not exist; make it first")


def _summary(analysis: xr.Dataset) -> str:
    """Say how long an analysis is, and what its innovations and its spread are in the mean."""
    from daml.verification import innovation_statistics

    lines = {
        "steps": f"{analysis.sizes['time']:,}, in {analysis.attrs['segments']} segments",
        "observation minus background, RMSE": innovation_statistics(analysis).innovation_rmse,
    }
    if "chi_square" in analysis:
        lines["chi-square, 1 if the expected innovations are right"] = analysis.chi_square.mean()
    for name in ("background_spread", "spread"):
        if name in analysis:
            lines[f"{name.replace('_', ' ')}, RMS"] = (analysis[name] ** 2).mean() ** 0.5
    return "\n".join(
        f"{name}: {value if isinstance(value, str) else format(float(value), '.4f')}"
        for name, value in lines.items()
    )


@click.command()
@run
def models() -> None:
    """List daml's models with their steps and their variables.

    A model of your own is a class in a script. The other commands take it as FILE.py:CLASS.
    """
    import inspect

    from daml.scripts import MODELS

    width = max(map(len, MODELS)) + 2
    for name, kind in MODELS.items():
        model, about = kind(), (inspect.getdoc(kind) or "").partition("\n")[0]
        given = model.variables
        names = ", ".join(given) if len(given) <= FEW else f"{len(given)} variables"
        click.echo(f"{name:<{width}}dt {model.dt:g}  {names:<20}  {about}")


@click.command(epilog=SCHEMES)
@click.argument("name", required=False)
@run
def schemes(name: str | None) -> None:
    """List the schemes and what each needs.

    With a NAME, describe this scheme and its arguments.
    """
    from daml.schemes import by_name

    if name is None:
        click.echo(by_name.table())
    else:
        click.echo(by_name.described(by_name.found(name, "scheme")))
