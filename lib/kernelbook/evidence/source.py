"""What Python source does, apart from how it is laid out and explained."""

from __future__ import annotations

import ast
import hashlib
import textwrap


def without_docstrings(tree: ast.AST) -> ast.AST:
    """The syntax tree with every docstring taken out; comments are not in it to begin with."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def code_hash(source: str) -> str:
    """A hash of what Python source does: its syntax tree without docstrings, comments, and layout."""
    tree = without_docstrings(ast.parse(textwrap.dedent(source)))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:20]
