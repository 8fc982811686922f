"""DynamoDB's expressions: reading condition, key condition, filter and update expressions.

A small parser of the grammar in the Amazon DynamoDB Developer Guide ("Comparison operator and
function reference", "Update expressions"), for top-level attributes. Reserved words, undefined and
unused placeholders are refused, as DynamoDB does. What the expressions do to an item is in
evaluation.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.doubles.reserved import RESERVED
from tests.doubles.values import Invalid, Value, checked

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<alias>#[A-Za-z0-9_]+)|(?P<value>:[A-Za-z0-9_]+)"
    r"|(?P<mark><=|>=|<>|[()=<>,+\-.\[\]]))"
)
_COMPARATORS = ("=", "<>", "<", "<=", ">", ">=")
_CONDITIONS = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "attribute_type": 2,
    "contains": 2,
    "begins_with": 2,
}
_MOST_CHARACTERS = 4096
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


@dataclass(frozen=True)
class Path:
    """A top-level attribute."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A value given beside the expression."""

    value: Value


@dataclass(frozen=True)
class Node:
    """An operation on its parts: "and", "=", "contains", "if_not_exists", "+" and so on."""

    kind: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Blank:
    """A placeholder of an expression that was read, but not for any one request yet."""

    text: str


@dataclass
class Placeholders:
    """The names and values of one request, and which of them its expressions have used.

    `careful`: whether the values are checked.
    """

    names: dict[str, str] | None
    values: dict[str, Value] | None
    careful: bool = True
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for kind, given in (("Names", self.names), ("Values", self.values)):
            if given is not None and not given:
                raise Invalid(f"ExpressionAttribute{kind} must not be empty")
        if self.careful:
            for value in (self.values or {}).values():
                checked(value)

    def name(self, alias: str) -> str:
        self.used.add(alias)
        if alias not in (self.names or {}):
            raise Invalid(f"An expression attribute name used is not defined; name: {alias}")
        return (self.names or {})[alias]

    def value(self, placeholder: str) -> Value:
        self.used.add(placeholder)
        if placeholder not in (self.values or {}):
            raise Invalid(f"An expression attribute value used is not defined: {placeholder}")
        return (self.values or {})[placeholder]

    def check_all_used(self) -> None:
        unused = {*(self.names or {}), *(self.values or {})} - self.used
        if unused:
            raise Invalid(f"Value provided in expression attributes unused: {sorted(unused)}")


def condition(text: str, placeholders: Placeholders) -> Node:
    """The tree of a condition, key condition or filter expression."""
    tree: Node = _filled(_condition(text), placeholders)
    return tree


def update(text: str, placeholders: Placeholders) -> dict[str, list[tuple[str, Any]]]:
    """Clause -> [(attribute, what to do with it)] of an update expression."""
    clauses = {
        clause: [
            (_filled(path, placeholders).name, _filled(operand, placeholders))
            for path, operand in actions
        ]
        for clause, actions in _update(text)
    }
    targets = [name for actions in clauses.values() for name, _ in actions]
    if len(set(targets)) != len(targets):
        raise Invalid("Two document paths overlap with each other")
    return clauses


# A simulated schedule asks with the same few dozen expressions thousands of times: each is read
# once, and filled in for every request.


@cache
def _condition(text: str) -> Node:
    reader = _Reader(text)
    tree = reader.either()
    reader.end()
    return tree


@cache
def _update(text: str) -> tuple[tuple[str, tuple[tuple[Any, Any], ...]], ...]:
    reader = _Reader(text)
    clauses: dict[str, tuple[tuple[Any, Any], ...]] = {}
    while not reader.at_end():
        clause = reader.take_word(*_CLAUSES)
        if clause in clauses:
            raise Invalid(f'The "{clause}" section can only be used once in an update expression')
        clauses[clause] = tuple(reader.actions(clause))
    return tuple(clauses.items())


def _filled(part: Any, placeholders: Placeholders) -> Any:
    """A tree that was read, with the names and values of one request in its blanks."""
    if isinstance(part, Blank):
        if part.text.startswith("#"):
            return Path(placeholders.name(part.text))
        return Literal(placeholders.value(part.text))
    if isinstance(part, Node):
        return Node(part.kind, tuple(_filled(each, placeholders) for each in part.parts))
    return part


class _Reader:
    def __init__(self, text: str) -> None:
        if not text.strip():
            raise Invalid("The expression can not be empty")
        if len(text.encode()) > _MOST_CHARACTERS:
            raise Invalid("Expression size has exceeded the maximum allowed size")
        self._tokens = list(_tokens(text))
        self._at = 0

    # --- tokens ---------------------------------------------------------------------------

    def at_end(self) -> bool:
        return self._at >= len(self._tokens)

    def end(self) -> None:
        if not self.at_end():
            raise Invalid(f"Syntax error; token: {self._tokens[self._at][1]}")

    def _peek(self) -> tuple[str, str]:
        return ("end", "") if self.at_end() else self._tokens[self._at]

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, text: str) -> bool:
        kind, found = self._peek()
        if kind in ("mark", "name") and found.upper() == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise Invalid(f"Syntax error; expected {text}, found {self._peek()[1]!r}")

    def take_word(self, *words: str) -> str:
        kind, found = self._next()
        if kind != "name" or found.upper() not in words:
            raise Invalid(f"Syntax error; expected one of {words}, found {found!r}")
        return found.upper()

    # --- conditions: OR binds loosest, then AND, then NOT -------------------------------------

    def either(self) -> Node:
        tree = self._both()
        while self._skip("OR"):
            tree = Node("or", (tree, self._both()))
        return tree

    def _both(self) -> Node:
        tree = self._negated()
        while self._skip("AND"):
            tree = Node("and", (tree, self._negated()))
        return tree

    def _negated(self) -> Node:
        if self._skip("NOT"):
            return Node("not", (self._negated(),))
        if self._skip("("):
            opened = self._at
            tree = self.either()
            self._expect(")")
            if self._tokens[opened][1] == "(" and self._closes(opened) == self._at - 2:
                raise Invalid("The expression has redundant parentheses")
            return tree
        return self._simple()

    def _simple(self) -> Node:
        kind, text = self._peek()
        if kind == "name" and text in _CONDITIONS and self._is_call():
            return self._condition_function(text)
        left = self._operand()
        if self._skip("BETWEEN"):
            low = self._operand()
            self._expect("AND")
            return Node("between", (left, low, self._operand()))
        if self._skip("IN"):
            self._expect("(")
            choices = self._list()
            if len(choices) > 100:
                raise Invalid("Invalid number of operands for operator IN")
            return Node("in", (left, *choices))
        kind, text = self._next()
        if kind != "mark" or text not in _COMPARATORS:
            raise Invalid(f"Syntax error; expected a comparison, found {text!r}")
        return Node(text, (left, self._operand()))

    def _closes(self, opened: int) -> int:
        """Where the parenthesis that opens at token `opened` closes."""
        depth = 0
        for at in range(opened, len(self._tokens)):
            depth += {"(": 1, ")": -1}.get(self._tokens[at][1], 0)
            if not depth:
                return at
        return -1

    def _is_call(self) -> bool:
        following = self._tokens[self._at + 1 : self._at + 2]
        return bool(following) and following[0][1] == "("

    def _condition_function(self, name: str) -> Node:
        self._next()
        self._expect("(")
        parts = self._list()
        if len(parts) != _CONDITIONS[name]:
            raise Invalid(f"Incorrect number of operands for {name}")
        if name.startswith("attribute_") and not _is_path(parts[0]):
            raise Invalid(f"Operator or function requires a document path; function: {name}")
        return Node(name, tuple(parts))

    def _list(self) -> list[Any]:
        parts = [self._operand()]
        while self._skip(","):
            parts.append(self._operand())
        self._expect(")")
        return parts

    def _operand(self) -> Any:
        kind, text = self._peek()
        if kind == "value":
            self._next()
            return Blank(text)
        if kind == "name" and text == "size" and self._is_call():
            self._next()
            self._expect("(")
            path = self.path()
            self._expect(")")
            return Node("size", (path,))
        return self.path()

    def path(self) -> Path | Blank:
        kind, text = self._next()
        if self._peek()[1] in (".", "["):
            raise NotImplementedError("this double knows top-level attributes only")
        if kind == "alias":
            return Blank(text)
        if kind != "name":
            raise Invalid(f"Syntax error; expected an attribute, found {text!r}")
        if text.upper() in RESERVED:
            raise Invalid(f"Attribute name is a reserved keyword; reserved keyword: {text}")
        return Path(text)

    # --- updates --------------------------------------------------------------------------

    def actions(self, clause: str) -> list[tuple[Any, Any]]:
        actions = [self._action(clause)]
        while self._skip(","):
            actions.append(self._action(clause))
        return actions

    def _action(self, clause: str) -> tuple[Any, Any]:
        name = self.path()
        if clause == "REMOVE":
            return name, None
        if clause == "SET":
            self._expect("=")
            left = self._assigned()
            for sign in ("+", "-"):
                if self._skip(sign):
                    return name, Node(sign, (left, self._assigned()))
            return name, left
        kind, text = self._next()
        if kind != "value":
            raise Invalid(f"Syntax error; {clause} takes a value, found {text!r}")
        return name, Blank(text)

    def _assigned(self) -> Any:
        kind, text = self._peek()
        if kind == "name" and text in ("if_not_exists", "list_append") and self._is_call():
            self._next()
            self._expect("(")
            first = self.path() if text == "if_not_exists" else self._assigned()
            self._expect(",")
            second = self._assigned()
            self._expect(")")
            return Node(text, (first, second))
        return self._operand()


def _is_path(part: Any) -> bool:
    return isinstance(part, Path) or (isinstance(part, Blank) and part.text.startswith("#"))


def _tokens(text: str) -> Any:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found:
            raise Invalid(f"Syntax error; token: {text[at:]!r}")
        at = found.end()
        yield found.lastgroup, found[found.lastgroup or 0]
