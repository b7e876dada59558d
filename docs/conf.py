"""The site: Markdown pages, notebooks as they were executed, and an API page of every public name."""

import inspect
import os
import shutil
import types
import typing
from pathlib import Path

import omib_spatial

HERE = Path(__file__).parent
# Notebooks are pages; Sphinx reads what lies under docs alone.
for notebook in HERE.parent.glob("tutorials/*.ipynb"):
    (HERE / "tutorials").mkdir(exist_ok=True)
    copy = HERE / "tutorials" / notebook.name
    if not copy.exists() or copy.read_bytes() != notebook.read_bytes():
        shutil.copyfile(notebook, copy)

project = "omib_spatial"
author = "The omib_spatial developers"
copyright = "2026, the omib_spatial developers. BSD-3-Clause"
version = release = omib_spatial.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
# Links to files of the repository that are no pages.
suppress_warnings = ["myst.xref_missing"] if os.environ.get("OMIB_DOCS_LOOSE") else []

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False, "exclude-members": "__new__, __init__"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
# Prose, in which numpydoc would look for names and types.
napoleon_custom_sections = [("Returns", "notes_style"), ("Warns", "notes_style")]
napoleon_use_rtype = False
napoleon_use_param = True
napoleon_use_ivar = True
default_role = "py:obj"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nitpicky = True
# Pages of other projects are linked where there is a network to ask them.
if os.environ.get("READTHEDOCS") or os.environ.get("GITHUB_ACTIONS"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
_OTHERS = (
    "abc|anndata|captum|collections|dask|dataclasses|geopandas|lightning|matplotlib|np|numpy|nn|pandas|pathlib|Path|scanpy|scipy|"
    "pydantic|shapely|sklearn|sp|sparse|spatialdata|squidpy|torch|transformers|typing|L|pd|gpd|ad"
)
nitpick_ignore_regex = [
    # Names of other projects and of Python.
    (r"py:.*", rf"({_OTHERS})(\..*)?"),
    (
        r"py:.*",
        r"(AnnData|SpatialData|subtypes|NAMED|NoneType|check_names|Axes|Figure|Tensor|Any|Self|Callable|Iterable|Mapping|Sequence|Literal|ndarray|None|optional)",
    ),
    (r"py:.*", r"(bool|bytes|dict|float|int|list|object|str|tuple|type|range|slice|.*Error|KeyboardInterrupt)"),
    # What is not public has no page: names of modules below a room, and of private ones.
    (r"py:.*", r"omib_spatial\.(stats|slides|detector|modalities|encoders)\.[a-z_]+(\.\w+)?"),
    (r"py:.*", r"omib_bench\.\w+"),
    # Attributes that share a description.
    (r"py:class", r"[a-z_0-9 ]+|Slice"),
    (r"py:.*", r"omib_(spatial|bench)(\.\w+)*\._\w+(\.\w+)*"),
    (r"py:.*", r"[\w.]*\b(State|Part|Combination|Signatures|Gaussian|Fused|Losses|GeneRows|GenomeRows|RunOptions)"),
]

html_theme = "sphinx_book_theme"
html_title = "omib_spatial"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": "https://github.com/omib-spatial/omib-spatial",
    "use_repository_button": True,
    "use_issues_button": True,
    "path_to_docs": "docs",
    "show_toc_level": 2,
    "home_page_in_toc": True,
}


def _skip_fields(app, kind, name, member, skip, options):
    """Fields of named tuples are described in their docstring already."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def _plain_annotations(app, obj, bound_method):
    """Show the types of arguments without what pydantic checks in them."""
    function = inspect.unwrap(obj) if callable(obj) else None
    if inspect.isfunction(function):
        # Text is of what is imported for type checkers alone: it has no name here, and stays.
        named = {k: v for k, v in function.__annotations__.items() if not isinstance(v, str)}
        plain = typing.get_type_hints(types.SimpleNamespace(__annotations__=named))
        obj.__annotations__ = function.__annotations__ | plain
        found = inspect.signature(obj)
        shown = [p.replace(annotation=plain.get(p.name, p.annotation)) for p in found.parameters.values()]
        obj.__signature__ = found.replace(parameters=shown)


def setup(app):
    """Register what is skipped, and what is shown in another way."""
    app.connect("autodoc-before-process-signature", _plain_annotations)
    app.connect("autodoc-skip-member", _skip_fields)
