"""The name that daml is distributed under, and a warning where another project shares its folder.

On the Python package index ``daml`` is another project, whose package has the same name. Installed
together, the two overwrite each other's files (``daml/__init__.py``, ``daml/models/__init__.py``).
"""

import os
from functools import cache

from daml.errors import warn

NAME = "daml-xarray"


@cache
def check_folder() -> None:
    """Warn if the distribution ``daml`` is installed in the folder of this package.

    It warns once. It looks at names in one folder only: reading the metadata would take longer than
    all else that ``import daml`` does.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        names = os.listdir(folder)
    except OSError:  # in a zip file nothing is overwritten
        return
    if any(name.startswith("daml-") and name.endswith(".dist-info") for name in names):
        warn(
            f"the distribution 'daml' is installed beside '{NAME}', and each overwrites files of "
            f"the other's; uninstall both (pip uninstall daml {NAME}), then install {NAME} again",
        )
