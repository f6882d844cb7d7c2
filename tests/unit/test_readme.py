"""The README and the other pages tell the truth, as far as a program can tell."""

import ast
import re
from pathlib import Path

import pytest

from minova.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def find(pattern: str) -> list[tuple[Path, str]]:
    """Return (page, text) of each place where a pattern with one group matches."""
    return [(page, text) for page in PAGES for text in re.findall(pattern, page.read_text(encoding="utf-8"))]


PLACES = re.findall(r"`(minova/[\w/]+\.py)`\s+`([\w.]+)`", README)


def definitions(file: str) -> set[str]:
    """Return the names of a module's classes and functions, and of the classes' methods with their class."""
    found: set[str] = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                node.name,
                *(f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)),
            }
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_a_request_is_traced() -> None:
    assert len(PLACES) > 10


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_each_function_that_is_named_exists(file: str, name: str) -> None:
    assert name in definitions(file)


@pytest.mark.parametrize(("page", "link"), find(r"\]\((?!http)([^)#]+)"))
def test_each_link_leads_somewhere(page: Path, link: str) -> None:
    assert (page.parent / link).exists()


@pytest.mark.parametrize(("page", "heading"), find(r"README\.md#([^)]+)"))
def test_each_section_that_is_named_exists(page: Path, heading: str) -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    assert heading in [each.lower().replace(" ", "-") for each in headings]


@pytest.mark.parametrize(("page", "typed"), find(r"(?m)(?:^ {4}.*|`)minova-manage ((?:[a-z][a-z-]* )?[a-z][a-z-]*)"))
def test_each_command_exists(page: Path, typed: str) -> None:
    assert any(name.startswith(typed) or typed.startswith(name) for name in COMMANDS)


def test_the_demo_is_shown() -> None:
    shown = README.partition("<!-- demo: begin -->")[2].partition("<!-- demo: end -->")[0]
    for part in ("done boot web", "done live-migrate db", "Instances", "Hosts", "compute:host"):
        assert part in shown
