"""Reads types and descriptions of arguments from the code, without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import griffe

from reference import ROOT

#: What the interpolations of a ``_target_`` stand for with PyTorch; Keras's have the same names.
_STANDS_FOR = {
    "${framework.trainer}": "dlsweep.torch.TorchTrainer",
    "${framework.models}": "dlsweep.torch",
    "${framework.optimizers}": "torch.optim",
    "${framework.schedulers}": "torch.optim.lr_scheduler",
}


@dataclass(frozen=True)
class Argument:
    """An argument: its type, and what the docstring says of it."""

    type: str
    meaning: str


@cache
def package() -> griffe.Module:
    """Returns dlsweep, parsed."""
    loaded = griffe.load("dlsweep", search_paths=[str(ROOT)], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


def target(text: str) -> str:
    """Returns the dotted path of a ``_target_``."""
    for interpolation, stands_for in _STANDS_FOR.items():
        text = text.replace(interpolation, stands_for)
    return text


def arguments(path: str) -> dict[str, Argument]:
    """Returns the arguments of a class or function of dlsweep; none if it is of another package."""
    if not path.startswith("dlsweep."):
        return {}
    found: Any = package()[path.removeprefix("dlsweep.")]
    if found.is_module:  # a function of the same name as its module
        found = found[found.name]
    found = found.final_target if found.is_alias else found
    described: dict[str, str] = {}
    for one in [*reversed(found.mro() if found.is_class else []), found]:
        for section in one.docstring.parse("google") if one.docstring else ():
            if section.kind is griffe.DocstringSectionKind.parameters:
                described |= {each.name: sentence(each.description) for each in section.value}
    return {
        each.name: Argument(readable(each.annotation), described.get(each.name, ""))
        for each in found.parameters
        if each.name != "self"
    }


def readable(annotation: Any) -> str:
    """Returns a type as a reader of YAML knows it."""
    if annotation is None:
        return ""
    text = _expanded(annotation)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace(",", " |"), text)
    text = re.sub(r"\b(Sequence|Mapping)\[", lambda found: _YAML[found[1]] + "[", text)
    return re.sub(r"\bNone\b", "null", text).replace("'", "").replace('"', "")


_YAML = {"Sequence": "list", "Mapping": "dict"}


def _expanded(annotation: Any) -> str:
    """Returns an annotation with the names of types of words replaced by these words."""
    text = str(annotation)
    for name, path in {one.name: one.canonical_path for one in _names(annotation)}.items():
        try:
            value = str(package()[path.removeprefix("dlsweep.")].value)
        except (KeyError, AttributeError):
            continue
        if "Literal[" in value:
            text = re.sub(rf"\b{name}\b", value, text)
    return text


def _names(annotation: Any) -> list[griffe.ExprName]:
    if isinstance(annotation, griffe.ExprName):
        return [annotation]
    if isinstance(annotation, griffe.Expr):
        return [one for one in annotation.iterate(flat=True) if isinstance(one, griffe.ExprName)]
    return []


def sentence(text: str) -> str:
    """Returns a description on one line, in Markdown."""
    text = " ".join(text.split())
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"\bNone\b", "null", text)
    return text.replace("``", "`").replace("|", r"\|")
