"""The library's own source on the page: what a chapter shows is what it ran."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from pathlib import Path
from typing import Any

MIME = "application/vnd.kernelbook.listing+json"


class Listing:
    """Where a piece of the library stands; the page reads it there when it is built."""

    def __init__(self, module: str, name: str, file: str):
        self.module, self.name, self.file = module, name, file

    def __repr__(self) -> str:
        return f"# {self.module}\n{source(Path(self.file), self.name)}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        code = highlight(source(Path(self.file), self.name), PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True))
        return {
            MIME: {"module": self.module, "name": self.name},
            "text/html": f"<div><code>{html.escape(self.module)}</code>{code}</div>",
            "text/plain": repr(self),
        }


def _without_docstring(text: str) -> str:
    tree = ast.parse(text)
    body = getattr(tree.body[0], "body", [])
    if body and len(body) > 1 and ast.get_docstring(tree.body[0], clean=False) is not None:  # type: ignore[arg-type]
        lines = text.splitlines()
        del lines[body[0].lineno - 1 : body[0].end_lineno]
        while len(lines) > body[0].lineno - 1 and not lines[body[0].lineno - 1].strip():
            del lines[body[0].lineno - 1]
        return "\n".join(lines)
    return text


def source(file: Path, name: str) -> str:
    """The source of the function or class `name` in a file, decorators and comments kept, docstring left out.

    Raises ValueError where the file defines no such name.
    """
    text = file.read_text("utf8")
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name]
    if not found:
        raise ValueError(f"name={name!r}: {file.name} defines no function or class of that name")
    first = min([found[0].lineno] + [d.lineno for d in found[0].decorator_list])
    lines = text.splitlines()[first - 1 : found[0].end_lineno]
    return _without_docstring(textwrap.dedent("\n".join(lines)))


def listing(thing: Any) -> Listing:
    """Show the source of a library function, class or Triton kernel, its docstring left out.

    Raises ValueError for what has no source in this library.
    """
    plain = getattr(thing, "fn", thing)  # a Triton kernel keeps its Python function there
    module = getattr(plain, "__module__", "") or ""
    if not module.startswith("kernelbook."):
        raise ValueError(f"thing={thing!r}: expected a function or class of the kernelbook library")
    return Listing(module, plain.__name__, str(inspect.getsourcefile(plain)))
