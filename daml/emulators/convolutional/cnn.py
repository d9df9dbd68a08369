"""A network of convolutions that learns a model's step from analyses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import xarray as xr

from daml.emulators.convolutional.convolving import Convolved
from daml.emulators.convolutional.lattice import Ground, Lattice, lattice_of
from daml.emulators.networks import Network
from daml.emulators.neural import Neural
from daml.errors import InputError
from daml.labels.arguments import shown
from daml.labels.doors import flat
from daml.labels.fields import has_fields
from daml.labels.ranges import whole


@dataclass(frozen=True)
class _Layers:
    channels: tuple[int, ...] = (24, 37)
    kernel: int = 5
    bilinear: bool = False
    grid: Any = None
    periodic: Any = None


@dataclass(frozen=True)
class CNN(Neural, _Layers):  # the fields of the last class come first
    """An emulator with a convolutional network (CNN), for states on a grid.

    In each step the network predicts an increment, which is added to the step of the model
    ``base``, or without a base to the last state. The increment at a point depends on the points
    near it, with the same weights at all points, so that all points train the same few weights.
    The variables must lie on a regular grid of one or two dimensions, with the same number of
    variables at each point; points may be missing, such as land. Each layer is a convolution and a
    rectifier (ReLU). After the last layer, a linear map of the channels at each point gives the
    increment. The grid is that of the base, or else that of ``grid``, or else that of the fields of
    the record to which the emulator is fitted.

    Parameters
    ----------
    channels : tuple of int
        Number of channels of each hidden layer.
    kernel : int
        Width of the convolution kernels: number of points along each dimension; odd.
    bilinear : bool
        Whether the first layer has three times its channels, of which one third is multiplied by
        another third, because the equations of fluids contain products. ``CNN(bilinear=True)`` is
        the network of Brajard et al. (2020), with 9,387 weights on one field.
    grid : Model or xarray.Dataset, optional
        What defines the grid: either a model with ``positions`` and ``period``, or with a
        ``template`` (only these attributes are used), or a Dataset of fields without time.
        Default: the grid of the base, or of the record. Leave it out if there is a base.
    periodic : bool or tuple of bool, optional
        Whether each dimension is periodic; a single value holds for all dimensions. Default:
        according to the ``period`` of the base or the grid. Beyond the ends of a dimension that is
        not periodic, the network reads the mean state.
    epochs : int, optional
        Number of epochs of a training on analyses. Default: as many as make 500 updates of the
        weights, but at least 16 and at most 500.
    window : int, optional
        Number of last states that the network reads in each step, at most ``sequence_length``.
        Default: the last state alone.
    base : Model, optional
        Model whose step the network corrects; a bias for each variable is then learned, too.
        Default: none; the network then predicts the change from the last state. See
        :class:`daml.LSTM` for the arrays that the base is stepped with.
    device : str
        Device on which torch computes: "cpu" or "cuda".
    seed : int
        Seed of the initial weights and of the order of the training sequences.
    sequence_length : int
        Number of steps in each training sequence.
    burn_in : int
        Number of steps at the start of each sequence that the loss ignores.
    batch_size : int
        Number of sequences per update of the weights.
    learning_rate : float
        Peak learning rate of the optimiser, Adam. The rate decays to 5 % of it along a cosine, and
        the norm of the gradient is clipped at 1.
    rate_decay : float
        When a fitted emulator is trained again, as in each further pass of a loop, the peak
        learning rate is multiplied by this factor, down to a fifth of ``learning_rate``.
    covariance : {"constant"}, optional
        "constant" also learns the background error covariance B of the forecasts, one for all
        times, in a training through the cycle (:meth:`fit_cycle`). Default: B is not learned.
    cycle_epochs : int, optional
        Number of epochs of a training through the cycle. Default: as many as make 1,200 updates of
        the weights (800 with a base), but at least 16 and at most 800.
    variance_floor : float, optional
        Gives each target of a training on analyses the weight 1 / (s^2 + variance_floor), where s
        is the ``spread`` of the analysis, which the record must have. The unit is that of the
        variables, squared. Targets with a missing s (NaN) are ignored. Default: all targets have
        the same weight.

    Raises
    ------
    InputError
        If a setting is out of range, or the variables do not lie on a regular grid.

    References
    ----------
    Brajard, J., Carrassi, A., Bocquet, M. and Bertino, L. (2020): Combining data assimilation and
    machine learning to emulate a dynamical model from sparse and noisy observations: a case study
    with the Lorenz 96 model. J. Comput. Sci. 44, 101171.

    Examples
    --------
    >>> import daml
    >>> model = daml.models.Lorenz96(n=8)
    >>> run = daml.simulate(model, steps=400, spinup=100)
    >>> emulator = daml.emulators.CNN((8,), kernel=3, grid=model, epochs=2).fit(run)
    >>> emulator.forecast(run, leads=2).sizes["lead"]
    2
    """

    sequence_length: int = 16
    burn_in: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.channels if isinstance(self.channels, (tuple, list)) else (self.channels,)
        channels = tuple(whole(width, "CNN: an entry of 'channels'") for width in given)
        kernel = whole(self.kernel, "CNN: 'kernel'")
        if not channels:
            raise InputError("CNN: 'channels' is empty; give the channels of a layer or more")
        if kernel % 2 == 0:
            raise InputError(f"CNN: 'kernel' is {kernel}; give an odd number of points")
        periodic = tuple(self.periodic) if isinstance(self.periodic, list) else self.periodic
        ends = periodic if isinstance(periodic, tuple) else (periodic,)
        if not all(isinstance(end, bool) for end in ends if ends != (None,)):
            raise InputError(
                f"CNN: 'periodic' is {shown(self.periodic)}; give True or False, or a tuple with "
                "one for each dimension"
            )
        for name, value in (("channels", channels), ("kernel", kernel), ("periodic", periodic)):
            object.__setattr__(self, name, value)
        if self.base is not None and self.grid is not None:
            raise InputError(
                "CNN: 'base' and 'grid' are given, and the grid is that of the base; leave 'grid' "
                "out"
            )
        fields = isinstance(self.grid, xr.Dataset)
        if self.grid is not None and not fields and not hasattr(self.grid, "variables"):
            raise InputError(
                f"CNN: 'grid' is {shown(self.grid)}; give a model with 'positions' or with a "
                "'template', or a Dataset of fields"
            )
        if self._ground is not None:
            self._lattice.check(kernel, "CNN")

    @cached_property
    def _ground(self) -> Any:
        """What says where the variables lie: the base, a model or fields; None if nothing does."""
        if isinstance(self.grid, xr.Dataset):
            found = Ground.of_fields(flat(self.grid))
            if found is None:
                raise InputError(
                    "CNN: 'grid' is a Dataset without fields; give a model with 'positions', or a "
                    "Dataset with a data variable (y, x) for each field"
                )
            return found
        return self.base if self.grid is None else self.grid

    @cached_property
    def _lattice(self) -> Lattice:
        if self._ground is None:
            raise InputError(
                "CNN: neither a base, nor 'grid', nor the record says where the variables "
                "lie; give CNN(grid=model) with a model that has 'positions' or a 'template', "
                "or a record of fields"
            )
        return lattice_of(self._ground, self.periodic, "CNN")

    def network(self, size: int, forcing: int = 0) -> Network:
        """Give a network with initial weights for ``size`` variables and ``forcing`` forcings.

        Raises
        ------
        InputError
            If the grid has another number of variables.
        """
        lattice = self._lattice
        if len(lattice.cells) != size:
            raise InputError(
                f"CNN: the grid has {len(lattice.cells)} variables, and the record has {size}; "
                "give the grid of the record"
            )
        how = self.window, self.covariance, self.base is not None, forcing
        return Convolved(lattice, self.channels, self.kernel, self.bilinear, *how)

    def alike(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean and spread (variable,) for scaling, pooled over the points of a field.

        They are the same at all points, as the weights are.
        """
        return self._lattice.pooled(mean, spread)

    def on(self, analysis: xr.Dataset) -> tuple[Self, xr.Dataset]:
        """Give the emulator with its grid, and the record on the points of this grid.

        An emulator without a grid takes that of the record. Points of a field that have no value at
        the first time, such as land, are left out.

        Raises
        ------
        InputError
            If the grid has other variables than the record.
        """
        record = flat(analysis, self._ground)
        if self._ground is None and has_fields(record):
            values = record["analysis" if "analysis" in record else "state"]
            first = values.isel(time=0).notnull()
            there = first.all([dim for dim in first.dims if dim != "variable"]).values
            record = record.isel(variable=there) if not there.all() else record
            return replace(self, grid=Ground.of_fields(record)), record
        names = tuple(record["variable"].values.tolist()) if "variable" in record.coords else ()
        if self.grid is not None and names and names != tuple(self._ground.variables):
            raise InputError(
                f"CNN: the variables of the grid are {tuple(self._ground.variables)[:3]}, ..., "
                f"and those of the record {names[:3]}, ...; give the grid of the record, with "
                "the variables in the same order"
            )
        return self, record

    def to_dataset(self) -> xr.Dataset:
        """Give weights, scaling, settings and the grid, as plain arrays and attributes."""
        return Ground.of(self._ground).told_in(super().to_dataset())

    def restored(self, dataset: xr.Dataset) -> Self:
        """Give the fitted emulator whose ``to_dataset`` is given, with its settings and grid.

        Raises
        ------
        InputError
            If the weights do not fit a network of these settings.
        """
        made = self.with_settings(dataset)
        if made._ground is None:
            made = replace(made, grid=Ground.of_dataset(dataset))
        return super(CNN, made).restored(dataset)
