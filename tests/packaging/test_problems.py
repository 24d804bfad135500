"""Every problem that the scorer and the organiser's commands can report says what to do about it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "scoring_program" / "blemore").glob("*.py")), *sorted((ROOT / "competition").glob("*.py"))]


def without_a_fix(source):
    """Lines of the `Problem(code, where, message, clip, hint)` that neither have a hint nor say what was expected."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
            arguments = dict(zip(("code", "where", "message", "clip", "hint"), node.args))
            arguments |= {word.arg: word.value for word in node.keywords}
            if "hint" not in arguments and not _says_what_was_expected(arguments["message"], source):
                lines.append(node.lineno)
    return lines


def _says_what_was_expected(message, source):
    if isinstance(message, ast.Name):  # a variable
        values = [
            node.value
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == message.id
        ]
        return all("expected" in ast.unparse(value) for value in values)
    return "expected" in ast.unparse(message)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_problem_says_what_to_do(path):
    assert not without_a_fix(path.read_text("utf-8"))


def test_a_problem_without_a_fix_is_found():
    source = (
        "message = f'{x}; expected 3'\n"
        "Problem('a', 'b', 'c')\n"
        "Problem('a', 'b', 'c; expected d')\n"
        "Problem('a', 'b', 'c', hint='d')\n"
        "Problem('a', 'b', message)\n"
    )
    assert without_a_fix(source) == [2]
