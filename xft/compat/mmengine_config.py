"""Run MMEngine's Python configs with a callback after each statement."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import config as mmengine_config

Scope = dict[str, Any]
_CALLBACK = "__after_statement"


@contextmanager
def patched_import_transformer(after_statement: Callable[[Scope], None]) -> Iterator[None]:
    """Call ``after_statement`` with the global variables of a config file after each of its statements.

    MMEngine has no hook for it. ``ImportTransformer`` is the only place that the syntax tree of every file passes
    through, base files first. The original class is restored on exit.
    """
    original = mmengine_config.ImportTransformer

    class Transformer(original):  # type: ignore[misc, valid-type]
        def visit_Module(self, node: ast.Module) -> ast.Module:
            node = self.generic_visit(node)
            scope: Scope = self.global_dict
            scope[_CALLBACK] = lambda: after_statement(scope)
            # An import from __future__ is dropped: it would no longer be the first statement.
            node.body = [
                child
                for statement in node.body
                if not isinstance(statement, ast.ImportFrom) or statement.module != "__future__"
                for child in (statement, *ast.parse(f"{_CALLBACK}()").body)
            ]
            return node

    mmengine_config.ImportTransformer = Transformer
    try:
        yield
    finally:
        mmengine_config.ImportTransformer = original
