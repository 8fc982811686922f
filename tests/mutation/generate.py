"""Mutants of a module: each of its guards removed, one at a time.

Guards are: an `if` whose body ends in return, raise, continue or break; the operands of `and` and
`or` in conditions; the boundaries `<` and `<=`, `>` and `>=`; and each part of a condition that
DynamoDB is given. Only what stands in functions is mutated.

What is dropped is still evaluated: a mutant misses a guard, not a name or a placeholder.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from tests.mutation.expressions import weakened

CHALICELIB = Path(__file__).parents[2] / "chalicelib"
PACKAGES = ("tasks", "exchange", "collecting")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Names = tuple[str, ...]
#: Its lines, what is changed, and the changed field of a node.
Site = tuple[range, str, ast.AST, str, Any]
_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_NEIGHBOUR: dict[type[ast.cmpop], tuple[str, ast.cmpop]] = {
    ast.Lt: ("<= for <", ast.LtE()),
    ast.LtE: ("< for <=", ast.Lt()),
    ast.Gt: (">= for >", ast.GtE()),
    ast.GtE: ("> for >=", ast.Gt()),
}
_GIVEN = ("ConditionExpression", "FilterExpression")


@dataclass(frozen=True)
class Mutant:
    """A module in which one field of one node has another value.

    `place`: "<package>/<module>.<function>"; `text`: what is changed, unique in its place;
    `lines`: of the statement that it stands in.
    """

    path: Path
    place: str
    text: str
    lines: range
    tree: ast.Module
    node: ast.AST
    field: str
    value: Any

    @property
    def module(self) -> str:
        """ "<package>/<module>"."""
        return self.place.split(".")[0]

    def code(self) -> CodeType:
        """The mutated module, compiled."""
        original = getattr(self.node, self.field)
        setattr(self.node, self.field, self.value)
        try:
            return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")
        finally:
            setattr(self.node, self.field, original)


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module of chalicelib."""
    return mutants_in(path.read_text(), path)


def mutants_in(source: str, path: Path) -> list[Mutant]:
    """Every mutant of the source of a module of chalicelib."""
    tree = ast.parse(source)
    module = path.relative_to(CHALICELIB).with_suffix("").as_posix()
    functions = dict(_functions(tree))
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    sites = [(function, site) for function in functions for site in _guards(function)]
    for function, (lines, text, node, field, value) in [*sites, *_given(functions)]:
        place = ".".join((module, *functions[function]))
        seen[place, text] += 1
        if seen[place, text] > 1:
            text += f" ({seen[place, text]})"
        found.append(Mutant(path, place, text, lines, tree, node, field, value))
    return found


def _functions(node: ast.AST, names: tuple[str, ...] = ()) -> Iterator[tuple[Function, Names]]:
    """Every function of a module, with its name and those around it."""
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, Function | ast.ClassDef)
        inner = (*names, child.name) if named else names
        if isinstance(child, Function):
            yield child, inner
        yield from _functions(child, inner)


def _own(node: ast.AST, lines: range = range(0)) -> Iterator[tuple[ast.AST, range]]:
    """The nodes of a function that are not another one's, each with the lines of its statement."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Assert):
            continue
        spanned = _header(child) if isinstance(child, ast.stmt) else lines
        yield child, spanned
        yield from _own(child, spanned)


def _header(statement: ast.stmt) -> range:
    """The lines of a statement, without those of its body."""
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body else statement.end_lineno or 0
    return range(statement.lineno, max(end, statement.lineno) + 1)


def _guards(function: Function) -> Iterator[tuple[range, str, ast.AST, str, Any]]:
    decided: set[ast.AST] = set()
    for node, lines in _own(function):
        if isinstance(node, ast.If) and isinstance(node.body[-1], _LEAVES):
            text = f"no guard: if {ast.unparse(node.test)}: {ast.unparse(node.body[-1])}"
            yield lines, text, node, "test", _taken_for(node.test, False)
        for operator in [each for each in _deciding(node) if each not in decided]:
            decided.add(operator)
            for at, operand in enumerate(operator.values):
                values = [*operator.values]
                values[at] = _taken_for(operand, isinstance(operator.op, ast.And))
                text = f"without {ast.unparse(operand)}: {ast.unparse(operator)}"
                yield lines, text, operator, "values", values
        if isinstance(node, ast.Compare):
            for at, op in enumerate(node.ops):
                if type(op) in _NEIGHBOUR:
                    name, neighbour = _NEIGHBOUR[type(op)]
                    ops = [*node.ops]
                    ops[at] = neighbour
                    yield lines, f"{name}: {ast.unparse(node)}", node, "ops", ops


def _deciding(node: ast.AST) -> Iterator[ast.BoolOp]:
    """The `and` and `or` of a node that say whether, not what: `name or "none"` is a value."""
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield from _operators(node.test)
    elif isinstance(node, ast.comprehension):
        for condition in node.ifs:
            yield from _operators(condition)
    elif isinstance(node, ast.BoolOp) and any(
        isinstance(each, ast.Compare | ast.UnaryOp) for each in node.values
    ):
        yield from _operators(node)


def _operators(condition: ast.expr) -> Iterator[ast.BoolOp]:
    if isinstance(condition, ast.BoolOp):
        yield condition
        for operand in condition.values:
            yield from _operators(operand)
    elif isinstance(condition, ast.UnaryOp):
        yield from _operators(condition.operand)


def _taken_for(operand: ast.expr, value: bool) -> ast.expr:
    """An operand that is evaluated, and then taken for `value`."""
    return ast.BoolOp(ast.Or() if value else ast.And(), [operand, ast.Constant(value)])


def _given(functions: dict[Function, Names]) -> Iterator[tuple[Function, Site]]:
    """The mutants of every string of a module that becomes part of a condition."""
    waiting = [
        (value, function)
        for function in functions
        for node, _ in _own(function)
        for name, value in _named(node)
        if name in _GIVEN
    ]
    done: set[ast.AST] = set()
    while waiting:
        value, function = waiting.pop(0)
        if value in done:
            continue
        done.add(value)
        if isinstance(value, ast.Constant | ast.JoinedStr):
            lines = range(value.lineno, (value.end_lineno or value.lineno) + 1)
            for text, field, changed in weakened(value):
                yield function, (lines, text, value, field, changed)
        elif isinstance(value, ast.Name):
            waiting += [(each, function) for each in _assigned(value.id, function)]
            waiting += _passed(value.id, function, functions)
        elif isinstance(value, ast.Call):  # " AND ".join(...): its parts
            waiting += [(each, function) for each in value.args]
        else:
            waiting += [
                (each, function)
                for each in ast.iter_child_nodes(value)
                if isinstance(each, ast.expr)
            ]


def _named(node: ast.AST) -> list[tuple[str | None, ast.expr]]:
    """Keyword arguments, and the entries of a dict."""
    if isinstance(node, ast.Call):
        return [(keyword.arg, keyword.value) for keyword in node.keywords]
    if isinstance(node, ast.Dict):
        keys = [getattr(key, "value", None) for key in node.keys]
        return [*zip(keys, node.values, strict=True)]
    return []


def _assigned(name: str, function: Function) -> Iterator[ast.expr]:
    """What a variable of a function is set to, or has added to it."""
    for node, _ in _own(function):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                yield node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.append":
            yield node.args[0]


def _passed(name: str, function: Function, functions: Iterable[Function]) -> Iterator[Any]:
    """What the functions of the module pass as an argument of this one, with the caller."""
    names = [arg.arg for arg in function.args.args]
    if name not in names:
        return
    at = names.index(name) - (names[0] == "self")
    for caller in functions:
        for node, _ in _own(caller):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(function.name):
                yield from ((each, caller) for each in node.args[at : at + 1])
                yield from ((value, caller) for key, value in _named(node) if key == name)
