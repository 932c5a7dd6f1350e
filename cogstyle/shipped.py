"""What comes with the package: weights and recipes, in a source tree or installed anywhere."""

from importlib import resources
from pathlib import Path

FOLDERS = {"pretrained_adapters": "pretrained_adapters", "recipes": "train"}  # in the package, in a source tree


def shelves(kind: str) -> tuple[Path, ...]:
    """Folders that may hold what is shipped of a kind, the source tree's first."""
    package = Path(str(resources.files("cogstyle")))
    return package.parent / FOLDERS[kind], package / kind


def recipes() -> dict[str, Path]:
    """The package's recipes by name: `shapes/image.toml`."""
    shelf = next((shelf for shelf in shelves("recipes") if shelf.is_dir()), None)
    return {} if shelf is None else {path.relative_to(shelf).as_posix(): path for path in sorted(shelf.rglob("*.toml"))}


def shipped_recipe(path: Path) -> Path:
    """`path`, or the package's own recipe or folder of this name: `shapes/image.toml`, also as `train/shapes`."""
    name = path.relative_to("train") if path.parts[:1] == ("train",) else path
    places = [path, *(shelf / name for shelf in shelves("recipes"))]
    return next((place for place in places if place.exists()), path)
