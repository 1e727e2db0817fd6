"""Build step: the repository's ``recipes/`` folder is copied into wheels as package data, at ``mmbert/recipes``."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """``build_py`` that also copies the recipes. An editable install reads them from the checkout instead."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "mmbert" / "recipes"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(__file__).parent / "recipes", target)


setup(cmdclass={"build_py": BuildWithRecipes})
