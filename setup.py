"""What setup.cfg cannot say: weights and recipes, which stand at the top of the repository, go into the package."""

from setuptools import find_packages, setup

SHIPPED = {"cogstyle.pretrained_adapters": "pretrained_adapters", "cogstyle.recipes": "train"}

setup(
    packages=[*find_packages(include=["cogstyle*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "cogstyle": ["py.typed"],
        "cogstyle.server.page": ["*.html", "*.js", "*.css", "*.svg"],
        "cogstyle.pretrained_adapters": ["*/*"],
        "cogstyle.recipes": ["*.toml", "**/*.toml"],
    },
)
