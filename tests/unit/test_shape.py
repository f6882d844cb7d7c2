"""The code keeps its shape: short files, short functions, no cycles, nothing global, nothing of one machine."""

import ast
import graphlib
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]

MAX_FILE, MEDIAN_FILE, MAX_FUNCTION, MEDIAN_FUNCTION = 400, 100, 40, 8

MODULES = [path for path in sorted((ROOT / "minova").rglob("*.py")) if "migrations" not in path.parts]

TEXTS = [
    path
    for folder in ("minova", "tests", "docs", "etc", "tools", "bench", ".ci", ".")
    for path in sorted((ROOT / folder).glob("*" if folder == "." else "**/*"))
    if path.is_file() and path.suffix not in (".pyc", ".sqlite") and path.name != ".git"
]

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name of each function of a file, and its number of lines with its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@every_module
def test_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE


def test_files_are_short_as_a_rule() -> None:
    lengths = [len(path.read_text().splitlines()) for path in MODULES]
    assert statistics.median(lengths) <= MEDIAN_FILE


@every_module
def test_functions_are_short(path: Path) -> None:
    assert [(name, length) for name, length in functions(path) if length > MAX_FUNCTION] == []


def test_functions_are_short_as_a_rule() -> None:
    lengths = [length for path in MODULES for _name, length in functions(path)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@every_module
def test_global_configuration_stays_in_cmd(path: Path) -> None:
    if path.parent.name != "cmd":
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert "CONF" not in names


@every_module
def test_entry_points_are_short(path: Path) -> None:
    if path.parent.name == "cmd":
        assert len(path.read_text().splitlines()) < 50


def test_no_import_cycle() -> None:
    graph = grimp.build_graph("minova", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > len(MODULES) / 2
    graphlib.TopologicalSorter(imports).prepare()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_one_machine(path: Path) -> None:
    """No place that exists on somebody's machine only."""
    assert re.findall(r"(?<![\w/.])/(?:home|root|work|Users|mnt|tmp)/[\w./-]+", path.read_text(errors="replace")) == []
