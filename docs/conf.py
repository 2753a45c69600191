"""Sphinx configuration."""

import sys
from configparser import ConfigParser
from pathlib import Path

_metadata = ConfigParser()
_metadata.read(Path(__file__).parents[1] / "setup.cfg")

project = "peewee_replicas"
author = copyright = "peewee_replicas contributors"
release = version = _metadata["metadata"]["version"]

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "readable_tables"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"{project} {version}"
html_show_sourcelink = html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# What is copied is the code, without the prompts of a shell or of Python and without what they print.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
nitpicky = False
