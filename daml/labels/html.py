"""How emulators and schemes show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any

import xarray as xr


def shown(settings: Any, found: Mapping[str, object]) -> str:
    """Give a dataclass of settings, and what was found with them, as an HTML table.

    Parameters
    ----------
    settings : dataclass
        Fields without a repr are left out.
    found : mapping from name to value
        Shown above the settings; a DataArray of two dims as a table.

    Examples
    --------
    >>> import daml
    >>> "<td>2</td>" in shown(daml.LSTM(layers=2), {"fitted": "no"})
    True
    """
    arguments = {f.name: getattr(settings, f.name) for f in fields(settings) if f.repr}
    rows = "".join(_row(name, value) for name, value in {**found, **arguments}.items())
    return f"<table><caption><b>{type(settings).__name__}</b></caption>{rows}</table>"


def _row(name: str, value: object) -> str:
    cell = escape(str(value))
    if isinstance(value, xr.DataArray):
        cell = value.to_pandas().to_html(float_format="%.3g")
    return f'<tr><th style="text-align: left">{escape(name)}</th><td>{cell}</td></tr>'
