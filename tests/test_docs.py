"""Links, paths, names and imports in README.md and docs/ exist."""

from __future__ import annotations

import ast
import pkgutil
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of_readme() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf8").partition("## Two commands")[2].partition("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("#")]


def test_ci_runs_the_second_command_of_the_readme():
    run_demo, run_tests = commands_of_readme()
    assert run_demo.endswith("partnerface demo --output demo")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf8")
    for step in run_tests.split(" && ")[1:]:
        program, *arguments = step.split()
        line = f'"$venv/bin/{Path(program).name}" {" ".join(arguments)}'.strip()
        assert line in script.replace(" -q ", " ")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_link_targets_exist(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_code_exists(page):
    """`folder/file.py` and `folder/file.py: name, Class.method` in backticks."""
    for path, names in re.findall(r"`([\w/.]+\.py)(?:: ([\w., ]+))?`", page.read_text(encoding="utf8")):
        file = next((base / path for base in (ROOT, ROOT / "partnerface_ns") if (base / path).is_file()), None)
        assert file is not None, path
        defined = set(_defined(ast.parse(file.read_text(encoding="utf8"))))
        missing = [name for name in names.split(", ") if name and name not in defined]
        assert not missing, f"{path} has no {missing}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda p: p.name)
def test_names_of_an_api_page_exist(page):
    names = re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf8"), re.MULTILINE)
    assert names
    for name in names:
        assert pkgutil.resolve_name(name), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_imports_of_a_page_exist(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = import_module(node.module)
                for alias in node.names:
                    submodule = find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                    assert hasattr(module, alias.name) or submodule, ast.unparse(node)


def _defined(tree: ast.AST, prefix: str = ""):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield prefix + node.name
            yield from _defined(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + t.id for t in targets if isinstance(t, ast.Name))
