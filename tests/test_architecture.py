"""Data flows one way: which room may import which, and which rooms live without torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import snn_energy

ROOT = Path(snn_energy.__file__).parent
RECORDS = {
    "profiling.profile",
    "profiling.kinds",
    "profiling.resolve",
    "graph.graph",
    "exporters.netlist.record",
}

# room -> rooms that it may import besides itself and `EVERYWHERE`; records may be read by everyone
EVERYWHERE = {"arrays", "errors", "files", "plugins", "reading", "records", "text", "values"}
MAY_IMPORT = {
    "arrays": set(),
    "errors": set(),
    "files": set(),
    "plugins": set(),
    "reading": set(),
    "records": set(),
    "text": set(),
    "values": set(),
    "data": set(),
    "frameworks": set(),
    "models": {"frameworks"},  # only `at_rest`: how neurons come to rest
    "safe_load": set(),
    "compat": set(),
    "weights": {"safe_load"},
    "own": {"weights", "safe_load", "compat", "models", "frameworks"},  # which buffers hold neurons' state
    "checkpoints": {"models", "safe_load", "weights", "own", "packaged"},
    "packaged": set(),
    "samples": {"data"},
    # graph, exporters: quantize = loihi; profiling: what an epoch's network costs, energy_weight
    "training": {"models", "data", "checkpoints", "safe_load", "graph", "exporters", "profiling"},
    "sweep": {"training", "models", "checkpoints", "data", "profiling", "energy"},
    "profiling": {"models", "frameworks", "energy", "reports"},  # the last two: only inside Profile's methods
    "evaluation": {"profiling", "models"},
    "callbacks": {"profiling", "energy"},
    "energy": {"profiling"},
    "graph": {"models", "frameworks"},  # neurons whose equation a framework knows
    "exporters": {"graph", "models", "profiling", "energy"},
    "reports": {"energy", "profiling", "exporters"},
}
# the rooms and files inside `exporters`: what each may import of the others
INSIDE_EXPORTERS = {
    "verification": set(),
    "kept_samples": set(),
    "folder": {"verification"},
    "netlist": {"verification"},
    "lowering": {"netlist"},
    "c": {"netlist"},  # C source of a netlist, built and run: also the simulator's fast engine
    "chip": {"c", "lowering", "netlist", "verification", "kept_samples", "network"},
    "equations": {"verification"},
    "in_time": {"verification"},
    "network": {"equations"},
    "onnx": {"verification", "kept_samples", "network"},
    "nir": {"lowering", "netlist", "verification", "kept_samples", "network"},
    "lava": {"chip", "lowering", "netlist", "verification", "kept_samples", "network"},
    "sanafe": {"chip", "lowering", "netlist", "verification", "network"},
    "mcu": {"c", "chip", "lowering", "netlist", "verification", "kept_samples", "network"},
    # runtimes by name only, when one is asked for
    "targets": {"verification", "kept_samples", "folder", "in_time", "equations", "network"},
}
EVERYTHING = {"cli", "__init__", "__main__"}
RECORD_FILES = ("profiling/profile.py", "graph/graph.py")
NETLIST_FILES = (
    "exporters/netlist",
    "exporters/c",
    "exporters/mcu/parts.py",
    "exporters/verification.py",
    "exporters/kept_samples.py",
    *(
        f"exporters/chip/{name}.py"
        for name in ("answer", "cards", "chips", "demand", "energy", "mapping", "pack", "parts")
    ),
)
WITHOUT_TORCH = (
    "energy",
    "reports",
    "arrays.py",
    "errors.py",
    "files.py",
    "plugins.py",
    "reading.py",
    "records.py",
    "text.py",
    "values.py",
    *RECORD_FILES,
    *NETLIST_FILES,
)


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if "program" not in p.parts)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; `top_level`: only what runs when the file itself is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(_import_time(tree)) if top_level else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def _import_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _import_time(node)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room in EVERYTHING:
        return
    allowed = MAY_IMPORT[room] | EVERYWHERE | {room}
    for name in imports(path):
        if not name.startswith("snn_energy."):
            continue
        target = name.removeprefix("snn_energy.")
        is_record = any(target == r or target.startswith(r + ".") for r in RECORDS)
        assert target.split(".")[0] in allowed or is_record, f"{room} imports {name}"


def test_every_room_is_on_the_map() -> None:
    assert {room_of(p) for p in modules()} - EVERYTHING == set(MAY_IMPORT)


def inside(name: str) -> str:
    """`snn_energy.exporters.chip.staa` -> `chip`."""
    return name.removeprefix("snn_energy.exporters.").split(".")[0]


@pytest.mark.parametrize(
    "path", [p for p in modules() if room_of(p) == "exporters"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_runtimes_know_nothing_of_each_other(path: Path) -> None:
    room = path.relative_to(ROOT / "exporters").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in imports(path):
        if name.startswith("snn_energy.exporters."):
            assert inside(name) in INSIDE_EXPORTERS[room] | {room}, f"exporters.{room} imports {name}"


def test_every_room_of_exporters_is_on_the_map() -> None:
    rooms = {p.relative_to(ROOT / "exporters").parts[0].removesuffix(".py") for p in modules()
             if room_of(p) == "exporters"}  # fmt: skip
    assert rooms - {"__init__"} == set(INSIDE_EXPORTERS)


def test_no_import_goes_round_in_a_circle() -> None:
    """Within a room, too, and also where the import is inside a function."""
    names = {
        ".".join(("snn_energy", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
        for p in modules()
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        if room_of(path) not in ("exporters", "graph"):
            continue
        found = set()
        for wanted in imports(path):
            module = wanted if wanted in names else wanted.rpartition(".")[0]
            if module in names and module != name and room_of(names[module]) in ("exporters", "graph"):
                found.add(module)
        graph[name] = found
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_no_torch_here(place: str) -> None:
    where = ROOT / place
    for path in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
        assert not [n for n in imports(path) if n.split(".")[0] in ("torch", "spikingjelly", "timm")], path


def test_optional_packages_are_imported_where_they_are_needed() -> None:
    optional = {
        "onnx",
        "onnxruntime",
        "onnxscript",
        "h5py",
        "nir",
        "sanafe",
        "lava",
        "cupy",
        "fvcore",
        "tensorboard",
    }
    for path in modules():
        found = {n.split(".")[0] for n in imports(path, top_level=True)} & optional
        assert not found, f"{path.relative_to(ROOT)} imports {found} when it is imported"
