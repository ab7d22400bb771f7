"""What Sphinx needs to know; `docs/site/build.py` starts it on a folder of staged pages."""

project = "segdex"
author = "the segdex authors"
root_doc = "docs/index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns: list[str] = []

# The same anchors as on a code host: every heading, and headings alone.
myst_heading_anchors = 6
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

# All that a page loads is in the output: fonts, scripts and the search index.
html_theme = "pydata_sphinx_theme"
html_title = "segdex"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
templates_path = ["templates"]
html_sidebars = {"**": ["sections"]}
html_theme_options = {
    "navbar_center": [],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "show_toc_level": 2,
}
html_last_updated_fmt = ""
