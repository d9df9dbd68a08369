"""The command that improves a model with observations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daml.commands import run
from daml.errors import InputError
from daml.options import DEVICE, FORCINGS, MODEL, OVERWRITE, RESUME, STORE, with_scheme

if TYPE_CHECKING:
    from daml.protocols import Scheme

IMPROVE = """\b
Examples:
  daml improve record.nc --model lorenz63 --store out.zarr
  daml improve record.nc --model model.py:MyModel --store out.zarr --passes 5 --resume
  daml improve record.nc --model lorenz63 --store out.zarr --scheme etkf --members 20
  daml improve record.nc --model lorenz63 --store out.zarr --training cycle
"""


@click.command(epilog=IMPROVE)
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
    assimilates them by 3DVar with the B of --background, or, with hidden variables, by a
    sigma-point filter. The command prints the scores of each pass and the pass that it chose.
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
