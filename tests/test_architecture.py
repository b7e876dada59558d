"""Who may import whom. docs/architecture.md draws the same arrows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = {
    "_atomic",
    "_checked",
    "_colours",
    "_keys",
    "_version",
    "_deprecation",
    "_reading",
    "_settings",
    "_threads",
    "_warn",
}
"""Modules that import at most each other, which all may use."""
ARROWS = {
    "core": set(),
    "encoders": {"core"},
    "stats": set(),
    "slides": set(),
    "modalities": {"core", "encoders", "slides", "stats"},
    "detector": {"core", "modalities", "slides", "stats"},
    "tl": {"core", "detector", "modalities", "pp", "slides", "stats"},
    "pp": {"modalities", "slides"},
    "pl": {"get", "slides", "stats"},
    "get": {"slides"},
    "io": {"get", "slides"},
    "reporting": {"detector", "get", "slides", "stats", "tl"},
    "datasets": set(),
    "cli": {"datasets", "get", "io", "pl", "pp", "reporting", "slides", "tl"},
}
LIBRARIES = {
    "stats": {"numpy", "scipy", "sklearn"},
    "core": {"torch", "lightning", "numpy", "safetensors", "tqdm", "scipy", "sklearn"},
}
"""Everything outside the standard library that a room may use."""
FORBIDDEN = {
    "slides": {"torch", "lightning", "torch_geometric", "matplotlib"},
    "pl": {"torch", "lightning", "torch_geometric"},
    "get": {"torch", "lightning", "torch_geometric", "matplotlib"},
    "io": {"torch", "lightning", "torch_geometric", "matplotlib"},
    "encoders": {"anndata", "scanpy", "squidpy"},
    "core": {"anndata", "scanpy", "squidpy", "spatialdata"},
}


def imports(path: Path) -> list[str]:
    """Modules that a file imports, wherever in it; ``from a import b`` is ``a.b`` where that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if _file_of(name) else node.module)
    return found


def _file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def room(module: str) -> str:
    """Second part of ``omib_spatial.room.file``."""
    return (module.split(".") + [""])[1]


FILES = sorted((ROOT / "omib_spatial").rglob("*.py"))
ROOMS = {path: path.relative_to(ROOT / "omib_spatial").parts[0].removesuffix(".py") for path in FILES}


@pytest.mark.parametrize("own", [*ARROWS, *sorted(SMALL)])
def test_a_room_imports_those_below_it_alone(own):
    allowed = ARROWS.get(own, set()) | SMALL | {own}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in FILES
        if ROOMS[path] == own
        for module in imports(path)
        if module.startswith("omib_spatial") and room(module) not in allowed and not (own == "cli" and not room(module))
    ]
    assert not wrong


def test_every_room_has_its_arrows_written_down():
    assert {name for name in ROOMS.values() if name not in {*SMALL, "__init__", "benchmarks", "data"}} == set(ARROWS)


def test_the_package_knows_its_benchmarks_by_the_command_line_alone():
    users = {ROOMS[path] for path in FILES if any(module.startswith("omib_bench") for module in imports(path))}
    assert users == {"cli"}


@pytest.mark.parametrize("own", sorted({*LIBRARIES, *FORBIDDEN}))
def test_a_room_uses_its_libraries_alone(own):
    import sys

    for path in (path for path in FILES if ROOMS[path] == own):
        outside = {module.split(".")[0] for module in imports(path)} - set(sys.stdlib_module_names) - {"omib_spatial"}
        assert not outside & FORBIDDEN.get(own, set()), path
        if own in LIBRARIES:
            assert outside <= LIBRARIES[own], path


def test_no_file_imports_the_face_of_its_own_room():
    faces = {path: ".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.name[:2] != "__"}
    assert not [str(path) for path, face in faces.items() if face in imports(path)]


def test_no_file_imports_itself_around_a_circle():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
    by_name = {name: path for path, name in names.items()}
    # A package's own face is no circle: its files are imported by it, and import each other by their full names.
    edges = {
        name: {m for m in imports(path) if m in by_name and not by_name[m].name.startswith("__init__")}
        for path, name in names.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in edges:
        visit(name, ())
