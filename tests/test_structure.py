"""The rules that keep the package simple and its results repeatable, held by walking its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairdd_cli

ROOT = Path(fairdd_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# Top to bottom. A module may import from its own row and from those below. Words of a row are the module's path
# below the package, or a folder of it.
ROWS = [
    {"cli", "__main__"},
    {"distill", "evaluate", "verify", "make_dataset", "import_set", "reporting"},
    {"loading", "extension"},
    {"methods"},
    {"matching"},
    {"training"},
    {"datasets"},
    {"runtime"},
    {"decodings", "fairness"},
    {"metrics", "networks", "config"},
    {"artifacts"},
    {"registry", "errors", "system", ""},
]


def name_of(path: Path) -> str:
    """The dotted name of the module at `path`."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# The package's front door imports these only when they are called for: what loads a file, and what shows an artifact.
DEFERRED = {("fairdd_cli", "fairdd_cli.loading"), ("fairdd_cli", "fairdd_cli.reporting.display")}
MODULES = {name_of(path): ast.parse(path.read_text()) for path in FILES}


def row_of(module: str) -> int:
    """The row of `module`; fails for one that has no place yet."""
    word = module.removeprefix("fairdd_cli").lstrip(".").split(".")[0]
    rows = [number for number, row in enumerate(ROWS) if word in row]
    assert rows, f"{module} has no row in the order of imports"
    return rows[0]


def imported(module: str) -> Iterator[str]:
    """The modules of the package that `module` imports, wherever in its text, but for those that are DEFERRED."""
    yield from (other for other in _imported(module) if (module, other) not in DEFERRED)


def _imported(module: str) -> Iterator[str]:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "fairdd_cli")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module and node.module.split(".")[0] == "fairdd_cli":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else node.module


def dotted(node: ast.AST) -> str:
    """The name that an expression such as `np.random.seed` spells."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    for other in imported(module):
        assert row_of(module) <= row_of(other), f"{module} imports {other}, which stands above it"


def test_no_module_imports_itself_by_way_of_others() -> None:
    # A package's __init__ and its own modules count as one; what `methods` loads by name is not an import.
    pending = {module: set(imported(module)) - {module} for module in MODULES}
    while pending:
        free = {module for module, others in pending.items() if not others & set(pending)}
        assert free, f"in a circle: {sorted(pending)}"
        pending = {module: others for module, others in pending.items() if module not in free}


def test_the_package_is_taken_in_at_a_glance() -> None:
    """At most 25 files and folders, and at most 10 floors: each stands above all that it imports."""
    rooms: dict[str, set[str]] = {}
    for module in MODULES:
        words = {(each.split(".") + [""])[1] for each in imported(module)}
        room = (module.split(".") + [""])[1]
        rooms.setdefault(room, set()).update(words - {room})

    def floor(room: str) -> int:
        return 1 + max((floor(below) for below in rooms[room]), default=0)

    assert len(rooms) <= 25
    assert max(map(floor, rooms)) <= 10


TESTS = Path(__file__).parent
PRIVATE = re.compile(r"_(?!_)")


def private_names(path: Path) -> Iterator[str]:
    """Each private name of another module of ours that the file at `path` imports or reaches into.

    A module may begin with an underscore: in a folder whose files are what is on offer, it is not one of them.
    """
    ours = {"fairdd_cli", *(each.stem for each in TESTS.rglob("*.py"))}
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
            for alias in node.names:
                if f"{node.module}.{alias.name}" in MODULES:
                    modules.add(alias.asname or alias.name)
                elif PRIVATE.match(alias.name):
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.split(".")[0] in ours}
        elif isinstance(node, ast.Attribute) and PRIVATE.match(node.attr) and dotted(node.value) in modules:
            yield dotted(node)


@pytest.mark.parametrize("path", [*FILES, *sorted(TESTS.rglob("*.py"))], ids=lambda path: path.name)
def test_private_names_stay_in_their_module(path: Path) -> None:
    assert not list(private_names(path))


def test_the_ban_on_private_names_sees_what_it_should(tmp_path: Path) -> None:
    for line in (
        "from fairdd_cli.metrics import _fractions",
        "from fairdd_cli import metrics\nmetrics._fractions",
        "import tiny\ntiny._secret",
    ):
        (tmp_path / "one.py").write_text(line)
        assert list(private_names(tmp_path / "one.py")), line
    (tmp_path / "one.py").write_text("from fairdd_cli.artifacts import _json\nimport os\nos._exit\n_json.loads")
    assert not list(private_names(tmp_path / "one.py"))


CLOCKS = {"time.time", "time.monotonic", "time.perf_counter", "perf_counter", "monotonic"}


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.py")), ids=lambda path: path.name)
def test_no_test_depends_on_how_long_something_takes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asserted = [
        node for assertion in ast.walk(tree) if isinstance(assertion, ast.Assert) for node in ast.walk(assertion)
    ]
    assert not [dotted(node) for node in asserted if dotted(node) in CLOCKS]


# Names whose use anywhere but in runtime/ would make a run depend on more than its seed and its options.
GLOBAL = {
    "manual_seed",
    "seed_all",
    "manual_seed_all",
    "set_rng_state",
    "set_state",
    "default_rng",
    "RandomState",
    "SeedSequence",
    "initial_seed",
    "urandom",
    "getrandbits",
    "uuid1",
    "uuid4",
}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
TORCH_LIKE = {"rand_like", "randn_like", "randint_like"}
IN_PLACE = {"uniform_", "normal_", "random_", "exponential_", "bernoulli_", "cauchy_", "geometric_", "log_normal_"}
TORCH_STATE = {"fork_rng", "random.fork_rng", "torch.random.fork_rng"}  # Streams.fork_rng is the keyed one
WALL_CLOCK = {"time.time", "time.time_ns"}


def unkeyed(tree: ast.AST) -> Iterator[str]:
    """Each use in `tree` of randomness that no key determines, or of the wall clock."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"import {name}" for name in names if name in ("random", "secrets", "uuid", "numpy.random"))
        if isinstance(node, ast.Attribute | ast.Name):
            name = dotted(node)
            if name.split(".")[-1] in GLOBAL | TORCH_LIKE or name in WALL_CLOCK | TORCH_STATE:
                yield name
            if name.startswith(("np.random.", "numpy.random.")) and name.split(".")[-1] != "Generator":
                yield name
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.split(".")[-1]
            keyed = any(keyword.arg == "generator" for keyword in node.keywords)
            if not keyed and (last in IN_PLACE or (name.startswith("torch.") and last in TORCH_DRAWS)):
                yield name


# Constructors of networks draw from torch's global state, and run only within Streams.fork_rng


METHOD_FILES = [path for path in FILES if path.parent.name == "methods" and not path.name.startswith("_")]


@pytest.mark.parametrize("path", METHOD_FILES, ids=lambda path: path.stem)
def test_a_method_speaks_of_images_and_networks_and_not_of_where_they_are_computed(path: Path) -> None:
    assert not re.findall(r"to_device|\.device\b|autocast|world_size|micro_batch|\branks?\b", path.read_text())


OUTSIDE_RUNTIME = sorted(name for name in MODULES if not name.startswith("fairdd_cli.runtime"))


@pytest.mark.parametrize("module", OUTSIDE_RUNTIME)
def test_every_draw_has_a_key(module: str) -> None:
    found = set(unkeyed(MODULES[module]))
    if module.split(".")[1:2] == ["networks"]:
        found = {name for name in found if name.split(".")[-1] not in TORCH_DRAWS | IN_PLACE}
    assert not found


def test_the_ban_on_unkeyed_draws_sees_what_it_should() -> None:
    for line in (
        "torch.manual_seed(0)",
        "np.random.seed(1)",
        "np.random.rand(3)",
        "np.random.default_rng()",
        "import random",
        "torch.randn(3)",
        "torch.randn_like(x)",
        "x.uniform_()",
        "seed = int(time.time())",
        "from random import choice",
        "torch.cuda.manual_seed_all(0)",
        "with torch.random.fork_rng(): pass",
    ):
        assert list(unkeyed(ast.parse(line))), line
    for line in ("torch.randn(3, generator=g)", "generator.uniform()", "time.perf_counter()", "x: np.random.Generator"):
        assert not list(unkeyed(ast.parse(line))), line


@pytest.mark.parametrize("module", OUTSIDE_RUNTIME)
def test_only_the_runtime_names_a_kind_of_device(module: str) -> None:
    tree = MODULES[module]
    words = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("cuda")
    ]
    words += [dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "cuda"]
    assert not words


WRITERS = {"write_text", "write_bytes", "savez", "savez_compressed", "tofile", "NamedTemporaryFile", "mkstemp", "h5py"}


def written(module: str) -> Iterator[str]:
    """Each place in `module` that opens HDF5 or a file for writing."""
    own = {"write_bytes"}  # of artifacts, called by its bare name
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name.split(".")[0] in ("h5py", "tempfile", "pickle"))
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        last = name.split(".")[-1] or getattr(node.func, "attr", "")
        if last in WRITERS - own or (last in own and "." in name):
            yield name
        if last in ("open", "fdopen"):
            modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            modes += [word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)]
            if any(isinstance(mode, str) and mode.strip("bt") in ("w", "a", "x", "r+", "w+") for mode in modes):
                yield name
        if name in ("torch.save", "torch.load", "np.save", "np.load"):
            yield name
        if last == "savefig" and [dotted(argument) for argument in node.args] != ["buffer"]:  # a picture in memory
            yield name


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith("fairdd_cli.artifacts")))
def test_only_artifacts_open_hdf5_or_write_files(module: str) -> None:
    assert not list(written(module))
