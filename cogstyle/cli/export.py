"""Write a bundle as a SwissArmyTransformer checkpoint, or a training run's checkpoint as a bundle."""

import argparse
from pathlib import Path

from cogstyle.cli.bundles import add_bundle_argument, bundles
from cogstyle.cli.import_ import new_path

HELP = "export a bundle for SwissArmyTransformer, or a training checkpoint as a bundle"
EXAMPLE = "cogstyle export checkpoint runs/keyframes --to bundles/halfway"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=("sat", "checkpoint"), help="sat: of a bundle; checkpoint: of a training run")
    parser.add_argument("source", nargs="?", metavar="BUNDLE|RUN", help="a bundle's name or folder; a run's folder")
    add_bundle_argument(parser)
    parser.add_argument("--to", type=new_path, required=True, metavar="DIR", help="folder to make; the bundle to write")
    parser.add_argument(
        "--role", choices=("keyframes", "interpolation", "superres"), help="sat: which adapter (default: keyframes)"
    )
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint: the one of this step (default: the newest)")
    parser.add_argument("--best", action="store_true", help="checkpoint: the best weights by validation so far")


def run(arguments: argparse.Namespace) -> int:
    from cogstyle.config import require

    if arguments.format == "sat":
        require(arguments.step is None and not arguments.best, "--step and --best are for checkpoints of a run")
        from cogstyle.bundle import open_bundle
        from cogstyle.interop.sat_bundle import export_sat

        export_sat(open_bundle(bundles(arguments)), arguments.to, role=arguments.role or "keyframes")
        print(arguments.to)
        return 0
    from cogstyle.training.finished import RECIPE, export_checkpoint
    from cogstyle.training.recipes import WeightRecipe, load_recipe

    require(arguments.source is not None, "name the folder of a run")
    require("bundles" not in arguments, "--bundle has no effect on a checkpoint: the run's recipe names its own")
    require(arguments.role is None, "--role has no effect on a checkpoint: the run's recipe says what it trains")
    require(arguments.step is None or not arguments.best, "--step and --best exclude each other")
    require(arguments.step is None or arguments.step > 0, f"--step {arguments.step} must be 1 or more")
    folder = Path(arguments.source)
    require((folder / RECIPE).is_file(), f"{folder} is not the folder of a run: it holds no {RECIPE}")
    recipe = load_recipe(folder / RECIPE)
    require(isinstance(recipe, WeightRecipe), f"the task {recipe.task!r} writes no checkpoints")
    assert isinstance(recipe, WeightRecipe)
    print(export_checkpoint(recipe, folder, arguments.to, step=arguments.step, best=arguments.best))
    return 0
