"""The order in which the gallery tells its stories."""

from sphinx_gallery.sorting import FunctionSortKey

NAMES = (
    *(
        "loop",
        "paper",
        "animation",
        "attractor",
        "memory",
        "b_size",
        "own_model",
        "own_methods",
        "ensembles",
        "schemes",
        "hybrids",
    ),
    *(
        "missing",
        "cycle",
        "hidden_variables",
        "ways",
        "ladder",
        "ablation",
        "climate",
        "laser",
        "stream",
        "sweep",
    ),
    "attribution",
)

story = FunctionSortKey(lambda name: NAMES.index(name.removeprefix("plot_").removesuffix(".py")))
