"""Improve data-driven models with data assimilation, on labelled xarray Datasets."""

from typing import Any

import lazy_loader

from daml.distribution import check_folder
from daml.moved import follow

__version__ = "0.1.0"

_attached, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        *("covariance", "diagnosis", "emulators", "errors", "figures", "innovations", "models"),
        *("networks", "paper", "protocols", "reports", "schemes", "verification"),
    ],
    submod_attrs={
        "running.assimilation": ["assimilate"],
        "experiments.comparison": ["compare_schemes"],
        "covariances.dense": ["climatological"],
        "labels.fields": ["flatten", "unflatten"],
        "loop.kept_scheme": ["load_scheme"],
        "loop.loop": ["Loop", "improve"],
        "running.forecasting": ["forecast", "simulate"],
        "running.reanalysis": ["smooth"],
        "emulators": ["LSTM", "fit_parameters", "load_emulator"],
        "verification.predictability": ["lyapunov_exponent", "lyapunov_spectrum"],
        "models": ["CoupledLorenz63", "Lorenz63"],
        "observing.points": ["from_points"],
        "observing.simulated": ["observe"],
        "observing.stepped": ["on_steps"],
        "schemes": ["ThreeDVar"],
        "sweeps.sweeping": ["sweep"],
        "running.tuning": ["tuned"],
    },
)


def __getattr__(name: str) -> Any:
    if name == "Cycle":  # until the next release
        import warnings

        warnings.warn("daml.Cycle is now daml.Loop", DeprecationWarning, stacklevel=2)
        name = "Loop"
    return _attached(name)


check_folder()
follow()
del check_folder, follow
