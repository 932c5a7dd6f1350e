"""What setup.cfg cannot say.

Weights and recipes, which stand at the top of the repository, go into the package. The native step is compiled for
several instruction sets where there is a C++ compiler, and left out where there is none.
"""

import platform
import runpy

from setuptools import Extension, find_packages, setup

SHIPPED = {"cogstyle.pretrained_adapters": "pretrained_adapters", "cogstyle.recipes": "train"}
NATIVE = runpy.run_path("cogstyle/native/variants.py")
HEADERS = [f"cogstyle/native/{name}.h" for name in ("vectors", "linear", "attention")]

setup(
    packages=[*find_packages(include=["cogstyle*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "cogstyle": ["py.typed"],
        "cogstyle.server.page": ["*.html", "*.js", "*.css", "*.svg"],
        "cogstyle.pretrained_adapters": ["*/*"],
        "cogstyle.recipes": ["*.toml", "**/*.toml"],
    },
    ext_modules=[
        Extension(
            f"cogstyle.native._{name}",
            ["cogstyle/native/step.cpp"],
            depends=HEADERS,
            extra_compile_args=[*NATIVE["FLAGS"], *flags],
            language="c++",
            optional=True,
        )
        for name, flags in NATIVE["VARIANTS"].items()
        if name not in NATIVE["X86"] or platform.machine().lower() in ("x86_64", "amd64")
    ],
)
