"""The order in which the gallery tells its stories: that of its index."""

import re
from pathlib import Path

from sphinx_gallery.sorting import FunctionSortKey

INDEX = Path(__file__).parents[1] / "examples" / "index.rst"
NAMES = re.findall(r"^    (plot_\w+)$", INDEX.read_text(), re.MULTILINE)

story = FunctionSortKey(lambda path: NAMES.index(Path(path).stem))
