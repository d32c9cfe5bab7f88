"""Static checks of a proposed program on its syntax tree: what it must not use.

The checks keep non-deterministic and side-effecting questions out of the curriculum (Absolute Zero, arXiv 2505.03335, section
3.3.4). Nothing is executed. Not a security boundary: that is the sandbox.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from string import Formatter
from types import ModuleType

ALLOWED_MODULES = frozenset(
    "__future__ abc array bisect cmath collections copy dataclasses decimal enum fractions functools heapq itertools math "
    "numbers operator re statistics string textwrap typing unicodedata".split()
)
"""Modules that a question may import: pure computation, equal on every run."""
BANNED_NAMES = frozenset(
    "eval exec compile open input print globals locals vars id hash getattr setattr delattr __import__ breakpoint exit "
    "quit help license copyright credits".split()
)
"""Builtins with effects, or with results that differ between runs."""
ESCAPING_ATTRIBUTES = frozenset(
    "sys modules builtins bltns contextlib copyreg inspect keyword random types warnings "
    "gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await cr_origin ag_frame ag_code ag_await tb_frame tb_next "
    "f_back f_builtins f_code f_globals f_locals f_trace".split()
)
"""Attributes that lead from allowed objects to others: modules that allowed ones have imported, and frames."""
DYNAMIC_NAMES = frozenset(
    "attrgetter methodcaller get_type_hints ForwardRef make_dataclass Formatter update_wrapper singledispatch "
    "singledispatchmethod".split()
)
"""Names in allowed modules that access attributes by computed names, or evaluate text."""
HARMLESS_DUNDERS = frozenset({"__name__", "__slots__"})
"""Names with double underscores that a program may use."""
NAMEDTUPLE_ATTRIBUTES = frozenset({"_asdict", "_fields", "_make", "_replace"})
"""Attributes of named tuples; all others with a leading underscore must be the program's own."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def unsafe_reason(tree: ast.Module) -> str | None:
    """Why a program is unsafe, in words that follow "the program"; None if it is not."""
    modules = {
        name.asname or name.name.partition(".")[0]: name.name if name.asname else name.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    }
    own, assigned = {*_own_attributes(tree)}, _constant_assignments(tree)
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node, local in _scoped(tree, frozenset()):
        match node:
            case ast.Import(names=names):
                why = next((why for name in names if (why := _import_objection(name.name))), None)
            case ast.ImportFrom(module=module, names=names):
                why = _import_objection(module or "None") or next(
                    (why for name in names if (why := _attribute_objection(name.name, own))), None
                )
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in modules and name not in local:
                why = _module_objection(modules[name], attr) or _attribute_objection(attr, own)
            # The one attribute with double underscores that ordinary classes need.
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"):
                why = None
            case ast.Attribute(value=value, attr="format" | "format_map"):
                why = _format_objection(value, assigned)
            case ast.Attribute(attr=attr):
                why = _attribute_objection(attr, own)
            case ast.MatchClass(kwd_attrs=attributes):
                why = next((why for attr in attributes if (why := _attribute_objection(attr, own))), None)
            case ast.Name(id=name) if name not in local:
                why = _name_objection(node, parents.get(id(node)), modules)
            case ast.Global():
                why = "uses global state"
            case _:
                why = None
        if why:
            return why
    return None


def makes_sets(tree: ast.Module) -> bool:
    """Whether a program may create a set, whose order depends on the hash seed if it contains strings."""
    return any(
        isinstance(node, ast.Set | ast.SetComp)
        or (isinstance(node, ast.Name) and node.id in ("set", "frozenset"))
        # An operation on the keys of a dict, such as `a.keys() & b.keys()`, gives a set.
        or (isinstance(node, ast.Attribute) and node.attr == "keys")
        for node in ast.walk(tree)
    )


def _import_objection(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] not in ALLOWED_MODULES or any(part.startswith("_") for part in parts[1:]):
        return f"imports {name[:40]}"
    return None


def _attribute_objection(name: str, own: set[str]) -> str | None:
    """Why an attribute must not be used, or a name not be imported from a module."""
    if name in ESCAPING_ATTRIBUTES or name in DYNAMIC_NAMES:
        return f"uses {name}"
    if (
        name.startswith("_")
        and name not in HARMLESS_DUNDERS | NAMEDTUPLE_ATTRIBUTES
        and (name.startswith("__") or name not in own or name in _private_names())
    ):
        return f"uses {name[:40]}"
    return None


def _module_objection(module: str, name: str) -> str | None:
    # Allowed modules have imported others, which a program could reach as their attributes.
    value = getattr(import_module(module), name, None) if _import_objection(module) is None and _exists(module) else None
    return f"uses {module}.{name[:40]}" if isinstance(value, ModuleType) and _import_objection(value.__name__) else None


def _exists(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _name_objection(node: ast.Name, parent: ast.AST | None, modules: dict[str, str]) -> str | None:
    """Why a name that is not a local variable must not be used."""
    name = node.id
    if (
        name in BANNED_NAMES
        or name in DYNAMIC_NAMES
        or (name.startswith("__") and name.endswith("__") and name not in HARMLESS_DUNDERS)
    ):
        return f"uses {name[:40]}"
    if not isinstance(node.ctx, ast.Load):
        return None
    if name in modules and not isinstance(parent, ast.Attribute):
        return f"uses the module {name[:40]} as a value"
    # `type` with three arguments makes classes with any attributes.
    called = isinstance(parent, ast.Call) and parent.func is node and len(parent.args) == 1
    if name == "type" and not (called or isinstance(parent, ast.Compare | ast.Subscript | ast.arg)):
        return (
            None
            if isinstance(parent, ast.Call) and parent.func is not node and _checks_type(parent)
            else "uses type as a value"
        )
    return None


def _checks_type(call: ast.Call) -> bool:
    """Whether a call with `type` as an argument can only use it to check types, and not to make classes."""
    return isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass", "map") and len(call.args) == 2


def _format_objection(template: ast.expr, assigned: dict[str, list[ast.expr | None]]) -> str | None:
    """Why a template must not be formatted: its fields may access attributes."""
    for text in assigned.get(template.id, [None]) if isinstance(template, ast.Name) else [template]:
        if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
            return "formats a text that is not written out"
        if _format_reads_attributes(text.value):
            return "uses an attribute in a format"
    return None


def _constant_assignments(tree: ast.Module) -> dict[str, list[ast.expr | None]]:
    """The expressions that are assigned to each name by plain assignments; None for every other binding of it."""
    bindings: dict[str, list[ast.expr | None]] = {}
    assigned = {
        id(node.targets[0]): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bindings.setdefault(node.id, []).append(assigned.get(id(node)))
        elif isinstance(node, ast.arg):
            bindings.setdefault(node.arg, []).append(None)
    return bindings


def _format_reads_attributes(template: str) -> bool:
    try:
        fields = [(field or "", spec or "") for _, field, spec, _ in Formatter().parse(template)]
    except ValueError:
        return True
    return any("." in field or (spec and _format_reads_attributes(spec)) for field, spec in fields)


def _own_attributes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            match part:
                case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    yield name
                case ast.Assign(targets=targets):
                    yield from (target.id for target in targets if isinstance(target, ast.Name))


@cache
def _private_names() -> frozenset[str]:
    """Names of private functions, classes and modules in allowed modules."""
    return frozenset(
        name
        for module in ALLOWED_MODULES
        for name, value in vars(import_module(module)).items()
        if name.startswith("_") and (callable(value) or isinstance(value, ModuleType))
    )


def _scoped(node: ast.AST, local: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node with the local variables of the functions around it; these may have names of builtins."""
    yield node, local
    inner, parts, body = local, [*ast.iter_child_nodes(node)], list[ast.AST]()
    if isinstance(node, _Function):
        body = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        inner = (
            local | {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)} | {*_bound_names(body)}
        )
    elif isinstance(node, _Comprehension):
        # The first iterable of a comprehension is evaluated outside of it.
        first = node.generators[0]
        parts = [*(part for part in parts if part is not first), first.iter, first.target, *first.ifs]
        body = [part for part in parts if part is not first.iter]
        inner = local | {*_bound_names([part.target for part in node.generators])}
    inside = {id(part) for part in body}
    for part in parts:
        yield from _scoped(part, inner if id(part) in inside else local)


def _bound_names(body: Sequence[ast.AST]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
        if not isinstance(node, ast.ClassDef | _Function | _Comprehension):
            yield from _bound_names([*ast.iter_child_nodes(node)])
