"""How the site is built: make docs."""

import os
import sys
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# Products of small matrices: the threads of one would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import draw
import gallery_pages

import daml

draw.pictures(HERE)

project = "daml"
author = "The daml developers"
copyright = "The daml developers"
version = release = daml.__version__
# Read the Docs knows where the repository is.
address = os.environ.get("READTHEDOCS_GIT_CLONE_URL", "").removesuffix(".git")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "results/*", "gallery/**/*.ipynb", "gallery/**/*.py"]
templates_path = ["_templates"]
nitpicky = True
keep_warnings = True

# The inventories of others: an empty one stands in where there is no network.
intersphinx_mapping = {
    name: (address, (None, str(HERE / "empty.inv")))
    for name, address in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "xarray": "https://docs.xarray.dev/en/stable",
        "dask": "https://docs.dask.org/en/stable",
        "matplotlib": "https://matplotlib.org/stable",
    }.items()
}
intersphinx_timeout = 10
nitpick_ignore_regex = [("py:.*", r"(collections|dask|matplotlib|numpy|typing|torch|xarray)\..*")]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_substitutions = {
    "version": version,
    "repository": f"[the repository]({address})" if address else "the repository",
}
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "gallery_order.story",
    "minigallery_sort_order": "gallery_order.story",
    "image_scrapers": ("gallery_pages.images",),
    "backreferences_dir": "api/uses",
    "doc_module": ("daml",),
    "image_srcset": [],
    "thumbnail_size": (440, 340),
    "first_notebook_cell": "%matplotlib inline",
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # a page of scripts from elsewhere
    "copyfile_regex": r"index\.rst",
    "plot_gallery": os.environ.get("DAML_DOCS") != "none",
}

html_theme = "pydata_sphinx_theme"
html_title = f"daml {version}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["daml.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "daml", "alt_text": "daml: home"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version", "theme-version"],
    "show_prev_next": True,
    "icon_links": [],
}
if address:
    html_theme_options["icon_links"] = [
        {"name": "Repository", "url": address, "icon": "fa-brands fa-git-alt"}
    ]
# Pages that stand alone have nothing to show beside them.
html_sidebars = {path.stem: [] for path in HERE.glob("*.md")}
html_context = {"default_mode": "auto"}


def _formula(display):
    """Give a visitor that writes a formula as MathML, which browsers set by themselves."""

    def visit(translator, node):
        mathml = tex2mathml(node.astext(), as_block=display)
        translator.body.append(f'<div class="formula">{mathml}</div>' if display else mathml)
        raise SkipNode

    return visit


def _accessible(app, page, template, context, doctree):
    """Take back the role of a list, in which docutils puts entries that are no items of one."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def setup(app):
    """Set formulas without a script from elsewhere: the site needs no network."""
    app.connect("html-page-context", _accessible)
    app.connect("source-read", gallery_pages.banner)
    app.add_html_math_renderer("mathml", (_formula(False), None), (_formula(True), None))
    app.config.html_math_renderer = "mathml"
