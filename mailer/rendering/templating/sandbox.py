"""The second stage of Jinja: a sandbox for templates that are filled in for each subscriber.

These templates see one subscriber and their links, nothing else. Before it is compiled, the syntax tree is
checked against an allow-list: no calls, no arithmetic, no assignments, and loops only over a field and never
nested. The output is therefore bounded by the length of template and data, and no attribute of a Python
object can be reached, because every `subscriber.x` becomes a plain variable. A link that is written out
unchanged (`{{ urls.click }}`) does not pass through Jinja at all: it becomes a mark in the static text, which
the composer replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Final, Literal, NoReturn, cast

from jinja2 import Environment, Template, TemplateSyntaxError, Undefined, nodes
from jinja2.filters import do_round, do_truncate
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from mailer.errors import SourceError
from mailer.rendering.templating.filters import FILTERS, by_language, wrong_argument

# The maximum number of items in a loop, so that data cannot multiply the operator's text.
MAX_LOOP_ITEMS: Final = 100
_LOOP_FIELDS: Final = frozenset({"index", "index0", "first", "last", "length"})
_TESTS: Final = frozenset({"defined", "undefined", "none", "string", "number", "in", "eq", "ne"})
# For these nodes it is enough to check their children.
_HARMLESS: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.List, nodes.Tuple, nodes.Pair,
    nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat,
)  # fmt: skip

# Sources cannot contain NUL, so it can delimit the mark of a link.
URL_MARK: Final = re.compile("\0([a-z]+)\0")

Root = Callable[[Mapping[str, object]], Iterator[str]]


class Absent(Undefined):
    """A field that the subscriber lacks: conditions may test it, but it cannot be written out."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)

    def __str__(self) -> str:
        self._fail_with_undefined_error()

    def __len__(self) -> int:
        self._fail_with_undefined_error()


class Sandbox:
    """Compiles the templates of one edition and knows which fields they use.

    `place` begins each error (`issues/007.md` or the edition's slug); `language` (BCP 47) formats dates
    and numbers.
    """

    __slots__ = ("_environments", "_place", "fields")

    def __init__(self, place: str, *, language: str = "en") -> None:
        self._place = place
        self._environments = {escape: _environment(escape, language) for escape in (False, True)}
        self.fields: dict[tuple[str, str], str] = {}
        """(`subscriber` or `urls`, field) to the variable that holds it."""

    def compile(
        self, source: str, part: str, *, url_names: Collection[str], autoescape: bool
    ) -> tuple[Root, tuple[str, ...]]:
        """Return a function that yields the filled-in template in pieces, and the static pieces.

        `url_names` are the attributes of `urls`. The function takes a value, or `missing`, for every variable
        of `fields`. Static pieces contain `URL_MARK`s for links. Raises `SourceError` with the line in `part`
        for anything that is not allowed.
        """
        if "\0" in source:
            raise SourceError(f"{self._place}: {part}: contains NUL characters", remedy="take them out")
        environment = self._environments[autoescape]
        try:
            tree = environment.parse(source)
            checker = _Checker(url_names, self.fields)
            code = environment.compile(checker.visit(tree), filename=f"<{part}>")
        except TemplateSyntaxError as error:
            raise SourceError(f"{self._place}: {part}:{error.lineno}: {error.message}") from error
        except RecursionError as error:
            raise SourceError(f"{self._place}: {part}: an expression is nested too deeply") from error
        root = Template.from_code(environment, code, {}).root_render_func
        constants = root.__code__.co_consts

        def fill(values: Mapping[str, object]) -> Iterator[str]:
            return root(cast(Context, _Scope(values)))

        return fill, tuple(constant for constant in constants if isinstance(constant, str))

    def field_of(self, variable: str) -> str:
        """Return the field of a variable as the author wrote it (`subscriber.city`)."""
        return next(
            (f"{o}.{name}" for (o, name), known in self.fields.items() if known == variable), variable
        )


def check_construct(tree: nodes.Template, url_names: Collection[str], loop_variable: str | None) -> None:
    """Raise `TemplateSyntaxError` if a construct is not allowed per subscriber.

    `loop_variable` is the variable of the surrounding loop. The tree is modified and cannot be used again.
    """
    _Checker(url_names, {}, loop_variable).visit(tree)


class _Scope:
    """The part of a Jinja context that compiled code uses when every name is a variable."""

    __slots__ = ("resolve_or_missing",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self.resolve_or_missing = values.__getitem__


class _Checker(NodeTransformer):
    """Rejects what is not allowed, and turns `subscriber.x` into a variable."""

    def __init__(
        self,
        url_names: Collection[str],
        fields: dict[tuple[str, str], str],
        loop_variable: str | None = None,
    ) -> None:
        self._url_names = url_names
        self._fields = fields
        self._loop_variable = loop_variable

    def generic_visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        if not isinstance(node, _HARMLESS):
            self._refuse(node, f"'{type(node).__name__.lower()}' cannot be used per subscriber")
        return super().generic_visit(node, *args, **kwargs)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        node.nodes = [self._marked(child) or self.visit(child) for child in node.nodes]
        return node

    def _marked(self, node: nodes.Expr) -> nodes.TemplateData | None:
        """Return the mark of a link that is written out unchanged, or None for anything else."""
        if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "urls":
            self._check_url(node, node.attr)
            return nodes.TemplateData(f"\0{node.attr}\0", lineno=node.lineno, environment=node.environment)
        return None

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802
        if isinstance(node.node, nodes.Name):
            if node.node.name == "loop" and self._loop_variable and node.attr in _LOOP_FIELDS:
                return node
            return self._variable(node, node.node.name, node.attr)
        return self._refuse(node, f"'.{node.attr}' cannot follow an expression")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        if isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const):
            return self._variable(node, node.node.name, str(node.arg.value))
        return self._refuse(node, "the name of a field must be a constant: subscriber['city']")

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        if node.name != self._loop_variable:
            self._refuse(node, f"'{node.name}' is not known; write 'subscriber.…' or 'urls.…'")
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if self._loop_variable is not None or node.recursive:
            self._refuse(node, "loops cannot be nested")
        if not isinstance(node.target, nodes.Name) or node.target.name.startswith("_"):
            return self._refuse(node, "a loop has one variable, whose name does not begin with '_'")
        if node.target.name in ("subscriber", "urls", "loop"):
            self._refuse(node, f"'{node.target.name}' is taken; use another name for the loop's variable")
        items = self.visit(node.iter)
        if not isinstance(items, nodes.Name):
            self._refuse(node, "a loop must run over a field of the subscriber")
        node.iter = nodes.Filter(items, "_items", [], [], None, None, lineno=node.lineno)
        self._loop_variable = node.target.name
        node.test = self.visit(node.test) if node.test is not None else None
        node.body = [self.visit(child) for child in node.body]
        self._loop_variable = None
        node.else_ = [self.visit(child) for child in node.else_]
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        if node.node is None or node.name not in FILTERS:
            near = get_close_matches(node.name, FILTERS, n=1)
            hint = (
                f"did you mean '{near[0]}'?" if near else f"available filters: {', '.join(sorted(FILTERS))}"
            )
            self._refuse(node, f"no filter '{node.name}' per subscriber; {hint}")
        assert node.node is not None
        arguments = [*node.args, *(pair.value for pair in node.kwargs)]
        if (
            node.dyn_args
            or node.dyn_kwargs
            or (node.name not in ("default", "d") and not all(isinstance(a, nodes.Const) for a in arguments))
        ):
            self._refuse(node, f"the arguments of '{node.name}' must be constants")
        constants = [argument.as_const() for argument in arguments if isinstance(argument, nodes.Const)]
        if wrong := wrong_argument(node.name, constants):
            self._refuse(node, wrong)
        node.node = self.visit(node.node)
        node.args = [self.visit(argument) for argument in node.args]
        for pair in node.kwargs:
            pair.value = self.visit(pair.value)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        if node.name not in _TESTS or node.kwargs or node.dyn_args or node.dyn_kwargs:
            self._refuse(
                node, f"no test '{node.name}' per subscriber; available tests: {', '.join(sorted(_TESTS))}"
            )
        node.node = self.visit(node.node)
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def _variable(self, node: nodes.Node, owner: str, field: str) -> nodes.Node:
        if owner not in ("subscriber", "urls"):
            self._refuse(node, f"'{owner}.{field}' is not known; write 'subscriber.…' or 'urls.…'")
        if owner == "urls":
            self._check_url(node, field)
        # A loop's variable never begins with `_`, so these names are free.
        name = self._fields.setdefault((owner, field), f"_{len(self._fields)}")
        return nodes.Name(name, "load", lineno=node.lineno, environment=node.environment)

    def _check_url(self, node: nodes.Node, name: str) -> None:
        if name not in self._url_names:
            there_are = ", ".join(self._url_names) or "nothing"
            self._refuse(node, f"'urls' has {there_are} here; there is no '{name}'")

    def _refuse(self, node: nodes.Node, why: str) -> NoReturn:
        raise TemplateSyntaxError(why, node.lineno)


def _environment(autoescape: bool, language: str) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        autoescape=autoescape, undefined=Absent, keep_trailing_newline=True
    )
    environment.filters = {
        **{name: environment.filters[name] for name in FILTERS if name in environment.filters},
        **by_language(language),
        "_items": _items,
        "d": _default,
        "default": _default,
        "first": lambda value: _end(value, 0),
        "join": _join,
        "last": lambda value: _end(value, -1),
        "round": _round,
        "truncate": lambda value, *a, **k: do_truncate(environment, str(value), *a, **k),
    }
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


def _default(value: object, replacement: object = "", _empty_too: bool = True) -> object:
    """Return the replacement for a missing or empty field; both mean that the value is unknown."""
    return replacement if isinstance(value, Undefined) or value is None or value == "" else value


def _end(value: object, at: int) -> object:
    """Return the first or last tag or letter; an empty value stays empty."""
    if isinstance(value, Undefined):
        value = str(value)
    return value[at] if isinstance(value, str | list | tuple) and value else ""


def _round(
    value: object, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common"
) -> object:
    return "" if value in (None, "") else do_round(float(str(value)), precision, method)


def _items(value: object) -> tuple[object, ...]:
    if isinstance(value, list | tuple):
        return tuple(value[:MAX_LOOP_ITEMS])
    return () if isinstance(value, Undefined) or value in (None, "") else (value,)


def _join(value: object, separator: str = "") -> str:
    return separator.join(str(item) for item in _items(value))
