"""Style: what ruff asks, and what it cannot: short functions, no conditional expression in another, no named lambda,
variables that are nouns.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("scoring_program", "competition", "baselines", "benchmarks")
LONGEST = 50  # lines
# A pronoun or a participle says what happened to a thing, not what it is.
NO_NOUNS = set(
    "its mine ours theirs chosen decided done drawn fitted found given judged kept known lacking made matched said seen"
    " shown taken told trained wanted written".split()
)


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


by_file = pytest.mark.parametrize("path", files(*PACKAGES, "tests"), ids=lambda path: str(path.relative_to(ROOT)))
by_source = pytest.mark.parametrize("path", files(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))


def parse(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def long_functions(text: str) -> list[str]:
    """Functions of more than LONGEST lines, not counting decorators."""
    functions = [node for node in parse(text) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [f"{node.lineno} {node.name}" for node in functions if node.end_lineno - node.lineno >= LONGEST]


def nested_conditionals(text: str) -> list[int]:
    """Lines of conditional expressions that contain another one."""
    conditionals = [node for node in parse(text) if isinstance(node, ast.IfExp)]
    return sorted({node.lineno for node in conditionals if any(map(_holds_conditional, ast.iter_child_nodes(node)))})


def _holds_conditional(node: ast.AST) -> bool:
    return any(isinstance(inside, ast.IfExp) for inside in ast.walk(node))


def named_lambdas(text: str) -> list[int]:
    """Lambdas that are assigned to a name, even if the linter is told to ignore them."""
    assignments = [node for node in parse(text) if isinstance(node, (ast.Assign, ast.AnnAssign))]
    return [node.lineno for node in assignments if isinstance(node.value, ast.Lambda)]


def no_nouns(text: str) -> list[str]:
    """Variables and parameters that are in NO_NOUNS; fields of classes are left out."""
    nodes = parse(text)
    statements = [statement for node in nodes if isinstance(node, ast.ClassDef) for statement in node.body]
    fields = {statement.target for statement in statements if isinstance(statement, ast.AnnAssign)}
    stores = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names = [(node.lineno, node.id) for node in stores if node not in fields]
    names += [(node.lineno, node.arg) for node in nodes if isinstance(node, ast.arg)]
    return [f"{line} {name}" for line, name in sorted(names) if name in NO_NOUNS]


def ruff(*arguments: str) -> subprocess.CompletedProcess:
    pytest.importorskip("ruff", reason="comes with the extra test")
    return subprocess.run([sys.executable, "-m", "ruff", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_linter_finds_nothing():
    run = ruff("check", "--no-cache", "--output-format", "concise", ".")
    assert run.returncode == 0, run.stdout + run.stderr


def test_everything_is_formatted():
    run = ruff("format", "--no-cache", "--check", ".")
    assert run.returncode == 0, run.stdout + run.stderr


@by_file
def test_functions_are_short(path):
    assert not long_functions(path.read_text("utf-8"))


@by_source
def test_no_conditional_contains_another(path):
    assert not nested_conditionals(path.read_text("utf-8"))


@by_source
def test_no_lambda_has_a_name(path):
    assert not named_lambdas(path.read_text("utf-8"))


@by_file
def test_variables_are_nouns(path):
    assert not no_nouns(path.read_text("utf-8"))


def test_each_fault_is_found():
    body = "\n".join(f"    x{number} = 0" for number in range(LONGEST))
    assert long_functions(f"def short():\n{body[: body.rindex(chr(10))]}\n") == []
    assert long_functions(f"@a\ndef long():\n{body}\n") == ["2 long"]
    assert nested_conditionals("a if b else c\nd if e else (f if g else h)\n[i if j else k for i in l]\n") == [2]
    assert named_lambdas("f = lambda: 0\ng(lambda: 0)\nh: object = lambda: 0\n") == [1, 3]
    assert no_nouns("class A:\n    made: int\nfound = 1\ndef f(told): pass\nfor its, x in y: pass\n") == [
        "3 found",
        "4 told",
        "5 its",
    ]
