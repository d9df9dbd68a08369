"""What the gallery's pages say of their figures and of their size."""

import os
import re

import matplotlib.pyplot as plt
from sphinx_gallery.scrapers import matplotlib_scraper

SMALLEST = """
.. warning::

    This page was built at the smallest size, to see that it runs. Its numbers and figures mean
    little, and the text, which describes the default size, does not hold for them.

"""
QUICK = re.compile(r"\"quick\"")


def described(figure):
    """Give the alternative text of a figure: its label, or what its panels show."""
    label = figure.get_label()
    if label:
        return label
    panels = [panel for axes in figure.axes if (panel := _panel(axes))]
    return " ".join(["Figure." if len(panels) < 2 else f"{len(panels)} panels.", *panels])


def _panel(axes):
    """Say what stands on the axes of a panel, and what its lines are."""
    names = [axes.get_ylabel(), axes.get_zlabel() if hasattr(axes, "get_zlabel") else ""]
    upward = " and ".join(name for name in names if name)
    along, lines = axes.get_xlabel(), axes.get_legend_handles_labels()[1]
    title = ", ".join(t for loc in ("left", "center", "right") if (t := axes.get_title(loc=loc)))
    drawn = f"{upward} against {along}" if upward and along else upward or along
    of = f" for {'; '.join(dict.fromkeys(lines))}" if lines else ""
    text = f"{title}: {drawn}{of}." if title and drawn else f"{title or drawn}{of}."
    return " ".join(text.split()) if drawn or title else ""


def images(block, variables, settings, **options):
    """Give the figures of a block as images, with alternative texts that describe them."""
    texts = iter([described(plt.figure(number)) for number in plt.get_fignums()])
    made = matplotlib_scraper(block, variables, settings, **options)
    return re.sub(r"(:alt: ).*", lambda found: found[1] + next(texts, ""), made)


def banner(app, page, source):
    """Say on a page of the gallery that it was built at the smallest size, where it was."""
    quick = os.environ.get("DAML_DOCS") == "quick" and page.startswith("gallery/plot_")
    if quick and QUICK.search(source[0]):
        title, rule, text = re.split(r"^(=+\n)", source[0], maxsplit=1, flags=re.MULTILINE)
        source[0] = title + rule + SMALLEST + text
