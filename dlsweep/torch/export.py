"""Exports PyTorch models to ONNX and to ``torch.export`` programs (``.pt2``)."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlsweep.errors import ExportError
from dlsweep.trainers.exporting import INPUT, SCORES, ExportSpec, only_output

#: The version of ONNX's operators.
_OPSET = 20


class _Normalizing(nn.Module):
    """A model with the normalization of its inputs in front."""

    def __init__(self, model: nn.Module, spec: ExportSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        for number, name in enumerate(spec.examples):
            if scaling := spec.scaling(name):
                for kind, values in zip(("mean", "std"), scaling, strict=True):
                    self.register_buffer(f"{kind}{number}", torch.tensor(values))

    def forward(self, inputs: Any) -> Any:
        """Returns scores [batch, ...] for inputs [batch, ...], or several by name."""
        named = {INPUT: inputs} if self.spec.is_single else inputs
        found = {}
        for number, (name, tensor) in enumerate(named.items()):
            found[name] = tensor
            if self.spec.scaling(name):
                mean, std = getattr(self, f"mean{number}"), getattr(self, f"std{number}")
                found[name] = (tensor.to(torch.float32) - mean) / std
        return only_output(self.spec.call(self.model, found), Tensor)


def write_onnx(model: nn.Module, spec: ExportSpec, path: Path) -> None:
    """Writes a model as ONNX, with the normalization of its inputs.

    Args:
        model: The model.
        spec: What it takes; words are encoded.
        path: The new file.

    Raises:
        ExportError: If the model cannot be exported.
    """
    module, example, dynamic = _traced(model, spec)
    with _quietly("ONNX"):
        program = torch.onnx.export(
            module,
            (),
            kwargs={"inputs": example},
            dynamo=True,
            dynamic_shapes={"inputs": dynamic},
            input_names=list(spec.examples),
            output_names=[SCORES],
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    assert program
    program.save(str(path), external_data=False)


def write_program(model: nn.Module, spec: ExportSpec, path: Path) -> None:
    """Writes a model as a ``torch.export`` program, with the normalization of its inputs.

    Its module takes one argument: a tensor, or several by name. Its extra files are the spec's.

    Args:
        model: The model.
        spec: What it takes; words are encoded.
        path: The new ``.pt2`` file.

    Raises:
        ExportError: If the model cannot be exported.
    """
    module, example, dynamic = _traced(model, spec)
    with _quietly("a torch.export program"):
        program = torch.export.export(module, (example,), dynamic_shapes={"inputs": dynamic})
    for part in program.graph_module.modules():
        for node in getattr(part, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)  # it has the paths of source files
    torch.export.save(program, path, extra_files=dict(spec.files))


#: The writers of each format.
WRITERS: dict[str, Callable[[Any, ExportSpec, Path], None]] = {
    "onnx": write_onnx,
    "torch": write_program,
}


def _traced(model: nn.Module, spec: ExportSpec) -> tuple[nn.Module, Any, Any]:
    """Returns a module to trace, an example of two for it, and its dynamic dimensions."""
    example: Any = {
        name: torch.from_numpy(array[:2].copy()) for name, array in spec.examples.items()
    }
    batch = torch.export.Dim("batch", min=1)
    dynamic: Any = {name: {0: batch} for name in example}
    if spec.is_single:
        example, dynamic = example[INPUT], dynamic[INPUT]
    return _Normalizing(model, spec).eval(), example, dynamic


@contextmanager
def _quietly(target: str) -> Iterator[None]:
    """Converts the exporter's errors, and hides its remarks on PyTorch's own code.

    Raises:
        ExportError: If the model cannot be exported.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),  # it prints the graph of what it cannot trace
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    except ExportError:
        raise
    except Exception as error:  # tracing calls the model's code, which may raise anything
        reason = _reason(error)
        raise ExportError(f"The model cannot be exported to {target}: {reason}") from error
    finally:
        logging.disable(disabled)


def _reason(error: BaseException) -> str:
    """Returns the first line of the error at the root of an exporter's error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"
