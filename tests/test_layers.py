"""Folders import only those before them, and nerfstudio is known to the plugin and the command line alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import partnerface_ns

PACKAGE = Path(partnerface_ns.__file__).parent
LAYERS = (
    "common",
    "geometry",
    "flame",
    "capture",
    "tracking",
    "warp",
    "fields",
    "rendering",
    "avatar",
    "training",
    "baked",
    "driving",
    "demo",
    "bench",
    "plugin",
    "cli",
)
"""Packages in the order in which a sample passes them. A package imports only itself and those before it."""
LEVEL = {name: level for level, name in enumerate(("__init__", *LAYERS))}
PARTS = {
    "tracking": ("video", "options", "fit", "report", "pipeline"),
    "tracking.video": ("packages", "face_topology", "decode", "networks"),
}
"""Parts of a package, which import only themselves and those before them. Parts that are not listed come last."""
FRAMEWORK = {"nerfstudio", "nerfacc", "viser"}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports_in(tree: ast.AST) -> Iterator[str]:
    """Full names of all that is imported anywhere below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


@pytest.fixture(params=MODULES, ids=str)
def module(request) -> Path:
    return request.param


def test_imports_point_upward(module):
    layer = layer_of(module)
    assert layer in LEVEL, f"{layer} has no place in the order"
    for name in imports_in(ast.parse((PACKAGE / module).read_text(encoding="utf8"))):
        package, _, rest = name.partition(".")
        if package == "partnerface_ns":
            imported = rest.split(".")[0]
            # `from partnerface_ns import __version__` names no module.
            assert LEVEL.get(imported, 0) <= LEVEL[layer], f"{module} imports {name}"


@pytest.mark.parametrize("package", PARTS)
def test_parts_of_a_package_import_only_earlier_parts(module, package):
    prefix = f"partnerface_ns.{package}."
    name = ".".join(("partnerface_ns", *module.with_suffix("").parts))
    if not name.startswith(prefix):
        return

    def level(full_name: str) -> int:
        part = full_name.removeprefix(prefix).split(".")[0]
        return PARTS[package].index(part) if part in PARTS[package] else len(PARTS[package])

    for imported in imports_in(ast.parse((PACKAGE / module).read_text(encoding="utf8"))):
        if imported.startswith(prefix):
            assert level(imported) <= level(name), f"{module} imports {imported}"


def test_only_the_plugin_and_the_command_line_know_nerfstudio(module):
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf8"))
    known = {name for name in imports_in(tree) if name.split(".")[0] in FRAMEWORK}
    assert not known or layer_of(module) in ("plugin", "cli"), f"{module} imports {known}"


def test_the_command_line_imports_nothing_heavy_before_it_is_called(module):
    if layer_of(module) != "cli":
        return
    statements = ast.parse((PACKAGE / module).read_text(encoding="utf8")).body
    at_import = {name for s in statements if isinstance(s, ast.Import | ast.ImportFrom) for name in imports_in(s)}
    heavy = {"torch", "smplx", "scipy", "matplotlib", "cv2", "ai_edge_litert", *FRAMEWORK}
    assert not {name for name in at_import if name.split(".")[0] in heavy}
    light = {
        f"partnerface_ns.common.{name}"
        for name in ("errors", "files", "atomic", "json_file", "npz_file", "progress", "command_lines")
    }
    light |= {"partnerface_ns.cli", "partnerface_ns.capture.names"}
    own = {name for name in at_import if name.startswith("partnerface_ns.")}
    assert all(name.startswith(tuple(light)) for name in own), f"{module} imports {own}"
