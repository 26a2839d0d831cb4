"""Small changes of a module that change what it does, one at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change: its lines, the code before and after, and what returns the module with the change in it."""

    line: int
    last_line: int
    before: str
    after: str
    source: Callable[[], str]

    @property
    def name(self) -> str:
        """What identifies the change while the lines around it move."""
        return f"{self.before} -> {self.after}"


def mutations(source: str) -> Iterator[Mutation]:
    """Yield every mutation of a module, in the order of its lines."""
    tree = ast.parse(source)
    for node in _mutable(tree):
        for replaced in _replacements(node):
            yield Mutation(
                getattr(node, "lineno", 0),
                getattr(node, "end_lineno", 0),
                ast.unparse(node),
                ast.unparse(replaced) if not isinstance(replaced, ast.Pass) else "(nothing)",
                partial(_swapped, tree, node, replaced),
            )


def _swapped(tree: ast.AST, old: ast.AST, new: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(_Swap(old, new).visit(tree)))


class _Swap(ast.NodeTransformer):
    """Returns a copy of a tree in which one node is another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return self._new
        made = copy.copy(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(made, name, [self.visit(one) if isinstance(one, ast.AST) else one for one in value])
            elif isinstance(value, ast.AST):
                setattr(made, name, self.visit(value))
        return made


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run, without annotations, decorators, docstrings and imports."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield child
            yield from _mutable(child)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARISONS:
            yield ast.Compare(left, [_COMPARISONS[type(operator)]()], [right])
        case ast.BoolOp(ast.And(), values):
            yield ast.BoolOp(ast.Or(), values)
        case ast.BoolOp(ast.Or(), values):
            yield ast.BoolOp(ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, ast.Add(), right):
            yield ast.BinOp(left, ast.Sub(), right)
        case ast.BinOp(left, ast.Sub(), right):
            yield ast.BinOp(left, ast.Add(), right)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1)
        case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Call(ast.Attribute(value, "with_for_update" | "where" | "distinct")):
            yield value
        case ast.Call(function, arguments, keywords) if keywords:
            for number, keyword in enumerate(keywords):
                # What an error suggests is prose.
                if keyword.arg == "remedy":
                    continue
                yield ast.Call(function, arguments, keywords[:number] + keywords[number + 1 :])
