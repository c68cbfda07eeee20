import waitkit

project = "waitkit"
author = "The waitkit authors"
copyright = "2026, the waitkit authors"
release = version = waitkit.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.intersphinx"]
intersphinx_mapping: dict[str, tuple[str, None]] = {}  # the build works offline
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "waitkit"

autodoc_typehints = "none"  # signatures carry them; repeated types would drown the prose
autodoc_member_order = "bysource"
napoleon_use_rtype = False
default_role = "any"
nitpicky = False
