"""Print the lowest version of each dependency in pyproject.toml, as pip arguments: `torch==2.6 numpy==1.26 ...`."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
named = [*project["dependencies"], *project["optional-dependencies"]["plots"]]
print(*(re.sub(r">=", "==", dependency) for dependency in named if ">=" in dependency))
