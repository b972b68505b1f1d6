"""The house: imports only go down, each outside library has one door, every file holds one idea and says it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "src" / "alexnet"
FILES = {path.relative_to(HOUSE).as_posix(): path for path in sorted(HOUSE.rglob("*.py"))}

# From the top. Rooms on one floor do not know each other; `__init__` and `__main__` are the front door.
FLOORS = (
    ("__main__", "__init__"),
    ("command_line",),
    ("report",),
    ("judge",),
    ("classifier",),
    ("training",),
    ("evaluation",),
    ("network", "data"),
    ("kernels",),
    ("runtime",),
)
LEVEL = {room: len(FLOORS) - number for number, rooms in enumerate(FLOORS) for room in rooms}

# An outside library: the files, or the room (with a slash), that may import it.
COMPILERS = tuple(
    f"kernels/{name}.py"
    for name in ("compiled", "lanes_numba", "memory_numba", "products_numba", "separable_numba", "tiles_numba")
)
DOORS = {
    "argparse": ("command_line/words.py",),
    "PIL": ("data/decode.py",),
    "matplotlib": ("report/",),
    "jinja2": ("report/",),
    "rich": ("training/progress.py",),
    "sklearn": ("data/layouts/digits.py",),
    "pyarrow": ("data/layouts/parquet.py",),
    "pickle": ("data/layouts/cifar10.py",),
    "simplejpeg": ("data/decode.py",),
    "numba": COMPILERS,
    "llvmlite": COMPILERS,
    "triton": tuple(
        f"kernels/{name}_triton.py"
        for name in (
            "after_convolution",
            "dropout",
            "in_blocks",
            "lanes",
            "launching",
            "presentation",
            "update_rule",
            "within_map",
        )
    ),
    "isal": ("kernels/checksum.py",),
    "scipy": ("data/layouts/ilsvrc.py",),
    "huggingface_hub": ("data/layouts/hub.py",),
    "fsspec": ("runtime/shelf.py",),
    "safetensors": ("runtime/checkpoint.py", "runtime/arrays.py"),
    "torch.utils.tensorboard": ("training/events.py",),
    "torch.distributed": (
        "runtime/arrival.py",
        "runtime/ranks.py",
        "runtime/pulse.py",
        "runtime/neighbours.py",
        "network/meetings.py",
        "network/shares.py",
    ),
    "random": (),
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "common", "misc", "base", "core", "manager", "tools", "shared"}


def room_of(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def trees() -> Iterator[tuple[str, ast.Module]]:
    for name, path in FILES.items():
        yield name, ast.parse(path.read_text())


def imports(tree: ast.AST) -> Iterator[str]:
    """What is imported, wherever the import stands: `a.b` for `import a.b`, `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out from `alexnet`"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def below(one: str, other: str) -> bool:
    """Whether the dotted name `one` is `other` or lies in it."""
    return one == other or one.startswith(f"{other}.")


def wrong_way(file: str, imported: str) -> bool:
    """Whether `file` may not import that."""
    if not below(imported, "alexnet"):
        return False
    room, known = room_of(file), imported.removeprefix("alexnet").removeprefix(".").partition(".")[0]
    known = known if known in LEVEL else "__init__"
    return known != room and LEVEL[known] >= LEVEL[room]


def not_by_its_door(file: str, imported: str) -> bool:
    """Whether `file` imports an outside library that has its door elsewhere."""
    doors = [places for library, places in DOORS.items() if below(imported, library)]
    return any(
        not any(file == place or (place[-1:] == "/" and file.startswith(place)) for place in each) for each in doors
    )


def test_every_room_has_its_floor():
    assert {room_of(file) for file in FILES} <= set(LEVEL)
    assert len(FILES) > 30, "the house was found"


def test_a_room_imports_only_from_lower_floors():
    assert [(file, name) for file, tree in trees() for name in imports(tree) if wrong_way(file, name)] == []


def test_the_kernels_import_nothing_of_ours():
    own = [
        (file, name)
        for file, tree in trees()
        for name in imports(tree)
        if room_of(file) in ("kernels", "runtime")
        and below(name, "alexnet")
        and not below(name, f"alexnet.{room_of(file)}")
    ]
    assert own == []


def test_each_outside_library_has_its_door():
    assert [(file, name) for file, tree in trees() for name in imports(tree) if not_by_its_door(file, name)] == []
    for library in ("argparse", "PIL", "rich"):
        assert any(below(name, library) for _, tree in trees() for name in imports(tree)), "the rule looks at something"


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("network/alexnet.py", "alexnet.data.augment"),
        ("data/squares.py", "alexnet.network.layers"),
        ("kernels/response_norm.py", "alexnet.network.layers"),
        ("runtime/checkpoint.py", "alexnet.kernels.response_norm"),
        ("evaluation/views.py", "alexnet.training.recipe"),
        ("classifier.py", "alexnet.judge"),
        ("training/loop.py", "alexnet.command_line.main"),
        ("data/decode.py", "alexnet.AlexNet"),
    ],
)
def test_the_rule_of_floors_sees_an_import_that_goes_up_or_sideways(file, imported):
    assert wrong_way(file, imported)
    tree = ast.parse(f"def f():\n    from {imported.rpartition('.')[0]} import {imported.rpartition('.')[2]}")
    assert [name for name in imports(tree) if wrong_way(file, name)] == [imported]


def test_the_rule_of_doors_sees_a_library_elsewhere():
    for file, imported in (("judge.py", "PIL.Image"), ("training/loop.py", "rich"), ("a.py", "torch.distributed.rpc")):
        assert not_by_its_door(file, imported)
    for file, imported in (
        ("report/figures.py", "matplotlib.figure"),
        ("command_line/words.py", "argparse"),
        ("a.py", "torch.nn"),
    ):
        assert not not_by_its_door(file, imported)


def uses(tree: ast.AST, *dotted: str) -> list[str]:
    """Which of the dotted names the code mentions: `print`, `os.environ`."""
    mentioned = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}
    return [name for name in dotted if name in mentioned]


def test_only_the_command_line_prints():
    assert [
        file for file, tree in trees() if uses(tree, "print", "sys.stdout") and room_of(file) != "command_line"
    ] == []
    assert uses(ast.parse(FILES["command_line/inspect.py"].read_text()), "print")


def test_the_environment_is_read_in_runtime_alone():
    names = ("os.environ", "os.getenv", "os.putenv", "environ", "getenv")
    assert [file for file, tree in trees() if uses(tree, *names) and room_of(file) != "runtime"] == []
    assert uses(ast.parse("import os\nx = os.environ['A']"), *names)


def test_nothing_is_decided_by_the_wall_clock_and_no_hidden_randomness_is_used():
    names = (
        "time.time",
        "datetime.now",
        "np.random.seed",
        "np.random.rand",
        "torch.manual_seed",
        "torch.rand",
        "torch.load",
    )
    assert [(file, found) for file, tree in trees() if (found := uses(tree, *names))] == []


def test_no_file_is_longer_than_three_hundred_lines():
    ours = [*FILES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in ours}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_no_module_has_a_name_that_says_nothing():
    assert [
        file for file in FILES if {part.removesuffix(".py") for part in file.split("/")} & NAMES_THAT_SAY_NOTHING
    ] == []


def silent(tree: ast.Module) -> Iterator[str]:
    """The public classes, functions and methods without a docstring, and "module" where that has none."""
    if not ast.get_docstring(tree):
        yield "module"
    bodies = [("", tree.body)]
    for owner, body in bodies:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                if not ast.get_docstring(node):
                    yield owner + node.name
                if isinstance(node, ast.ClassDef):
                    bodies.append((f"{owner}{node.name}.", node.body))


def overrides(file: str, name: str) -> bool:
    """A method that a class above it in the same file has said already, or that PyTorch defines."""
    method = name.rpartition(".")[2]
    said = [node for node in ast.walk(ast.parse(FILES[file].read_text())) if isinstance(node, ast.FunctionDef)]
    known = any(node.name == method and ast.get_docstring(node) for node in said)
    return "." in name and (known or method in ("forward", "backward", "setup_context", "extra_repr"))


def test_every_module_class_and_function_says_what_it_is():
    unsaid = [(file, name) for file, tree in trees() for name in silent(tree) if not overrides(file, name)]
    assert unsaid == []
    assert list(silent(ast.parse("class A:\n  def b(self): pass\ndef _c(): pass"))) == ["module", "A", "A.b"]


def test_the_tests_mirror_the_house():
    rooms = {path.name for path in HOUSE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    for folder in (ROOT / "tests").iterdir():
        if folder.is_dir() and not folder.name.startswith("__"):
            assert folder.name in rooms, f"tests/{folder.name} has no room of that name"
