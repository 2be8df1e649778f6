"""How records show themselves: in a line of text, and as a table in a notebook."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

__all__ = ["html_table", "shown"]

Record = TypeVar("Record", bound=type)
DIGITS = 6
MOST = 6
"""Entries of a sequence that are shown one by one."""


def shown(record: Record) -> Record:
    """Give a data class a `repr` of one line, and a table in notebooks.

    Numbers have six digits; tensors and long sequences are told by their size, as their numbers would hide the others.

    Example:
        >>> import torch
        >>> from dataclasses import dataclass
        >>> @shown
        ... @dataclass(frozen=True)
        ... class Found:
        ...     mean: float
        ...     values: torch.Tensor
        >>> Found(1 / 3, torch.zeros(100))
        Found(mean=0.333333, values=<tensor (100,)>)
    """
    record.__repr__ = _to_text  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(record, "_repr_html_"):
        record._repr_html_ = _to_html
    return record


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """Return a table of HTML, of texts, numbers and other values.

    Example:
        >>> html_table(("K", "nats"), [(1, 2 / 3)])
        '<table><tr><th>K</th><th>nats</th></tr><tr><td>1</td><td>0.666667</td></tr></table>'
    """
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = [("th", columns), *(("td", [_short(value) for value in row]) for row in rows)]
    body = ("".join(f"<{kind}>{escape(text)}</{kind}>" for text in texts) for kind, texts in lines)
    return f"<table>{head}{''.join(f'<tr>{line}</tr>' for line in body)}</table>"


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float | np.floating):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"<{kind} {tuple(value.shape)}>" if value.ndim else f"{value.item():.{DIGITS}g}"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        if len(value) > MOST or (value and is_dataclass(value[0])):
            return f"<{len(value)} {type(value[0]).__name__}{'s' if len(value) > 1 else ''}>"
        return f"({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, tuple):
        parts = (f"{name}={_short(part)}" for name, part in zip(value._fields, value, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
        return f"{type(value).__name__}({', '.join(parts)})"
    return reprlib.repr(value) if isinstance(value, dict | list) else repr(value)


def _parts(record: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in fields(record) if field.repr]


def _to_text(self: Any) -> str:
    texts = ((name, repr(value) if isinstance(value, str) else _short(value)) for name, value in _parts(self))
    return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts)})"


def _to_html(self: Any) -> str:
    return html_table(("", type(self).__name__), _parts(self))
