"""The mutants of a module: cosmic-ray's operators, and one of our own that leaves a statement out.

Annotations are left alone: ``from __future__ import annotations`` never runs them, mypy checks them.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator, operator_names
from cosmic_ray.util import read_python_source
from cosmic_ray.work_item import MutationSpec, WorkItem
from parso.python.tree import Keyword
from parso.tree import BaseNode, NodeOrLeaf

Position = tuple[int, int]


class RemoveStatement:
    """An operator for cosmic-ray: a simple statement of a function becomes ``pass``.

    cosmic-ray's own change operators and constants; this one finds the call or the assignment whose absence
    nobody notices.
    """

    @classmethod
    def arguments(cls) -> tuple[()]:
        """Take none."""
        return ()

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[Position, Position]]:
        """Yield the place of ``node`` if it is a statement that does something."""
        if (
            not isinstance(node, BaseNode)
            or node.type != "simple_stmt"
            or not node.search_ancestor("funcdef")
        ):
            return
        statement = node.children[0]
        if statement.type != "string" and getattr(statement, "value", None) != "pass":
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """Put ``pass`` in its place."""
        first = node.get_first_leaf()
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.prefix)
        return node


OPERATOR_PROVIDERS["house"] = {"RemoveStatement": RemoveStatement}


class Change(NamedTuple):
    """What a mutant changes: the lines that go and the lines that come, and the new text of the module."""

    was: str
    now: str
    text: str


class Module:
    """A module, its mutants, and each mutant's text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = ".".join(path.with_suffix("").parts)
        self.text: str = read_python_source(path)
        self._tree = get_ast(self.text)
        self._hash = hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def mutants(self) -> Iterator[WorkItem]:
        """Yield every mutant, always in the same order; its job id names it as long as the text stands."""
        nodes = list(ast_nodes(self._tree))
        annotations = list(_annotations(nodes))
        for name in operator_names():
            operator_class = get_operator(name)
            if operator_class.arguments():
                continue  # replaces variables by random numbers: no two runs would be the same
            operator = operator_class()
            places = ((node, *place) for node in nodes for place in operator.mutation_positions(node))
            for occurrence, (node, start, end) in enumerate(places):
                if not any(first <= start < last for first, last in annotations):
                    yield self._item(name, occurrence, start, end, node)

    def _item(
        self, operator: str, occurrence: int, start: Position, end: Position, node: NodeOrLeaf
    ) -> WorkItem:
        spec = MutationSpec(
            module_path=self.path,
            operator_name=operator,
            occurrence=occurrence,
            start_pos=start,
            end_pos=end,
            definition_name=ASTQuery(node).get_definition_name(),
        )
        return WorkItem.single(f"{self._hash}/{operator}/{occurrence}", spec)

    def mutate(self, spec: MutationSpec) -> Change:
        """Return what the mutant changes. It spoils the tree: once per process."""
        visitor = MutationVisitor(spec.occurrence, get_operator(spec.operator_name)())
        text: str = visitor.walk(self._tree).get_code()
        lines = list(difflib.ndiff(self.text.splitlines(), text.splitlines()))
        was, now = (
            "\n".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in ("- ", "+ ")
        )
        return Change(was, now, text)


def _annotations(nodes: list[NodeOrLeaf]) -> Iterator[tuple[Position, Position]]:
    """Yield where annotations of variables, parameters and results stand."""
    for node in nodes:
        if node.type in ("annassign", "tfpdef"):
            annotation = node.children[1 if node.type == "annassign" else 2]
        elif node.type == "funcdef" and node.annotation is not None:
            annotation = node.annotation
        else:
            continue
        yield annotation.start_pos, annotation.end_pos
