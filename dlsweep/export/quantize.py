"""Quantizes ONNX models to 8-bit integers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from dlsweep.errors import ExportError
from dlsweep.trainers.exporting import ExportSpec

#: The number of calibration examples in a batch.
_BATCH = 50


class _Examples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Yields the spec's examples in batches."""

    def __init__(self, spec: ExportSpec) -> None:
        self._batches = self._split(spec)

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next batch by input name; None after the last."""
        return next(self._batches, None)

    def _split(self, spec: ExportSpec) -> Iterator[dict[str, Any]]:
        count = len(next(iter(spec.examples.values())))
        for start in range(0, count, _BATCH):
            yield {name: array[start : start + _BATCH] for name, array in spec.examples.items()}


def quantize(path: Path, spec: ExportSpec) -> None:
    """Replaces an ONNX file by one with 8-bit integers.

    ``int8`` also quantizes activations, by the range that they have on the spec's examples;
    ``dynamic`` finds that range for each batch.

    Args:
        path: The file, with inputs as the spec's examples.
        spec: What the model takes, and the quantization.

    Raises:
        ExportError: If ONNX Runtime cannot quantize it.
    """
    prepared = path.with_suffix(".prepared.onnx")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises to do what has just been done
    try:
        quant_pre_process(str(path), str(prepared))
        if spec.quantization == "dynamic":
            quantization.quantize_dynamic(prepared, path, weight_type=quantization.QuantType.QInt8)
        else:
            quantization.quantize_static(
                prepared,
                path,
                _Examples(spec),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,  # for CPUs without VNNI, whose 8-bit products saturate
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
    except Exception as error:  # noqa: BLE001 - shape inference raises plain Exception
        raise ExportError(
            f"ONNX Runtime cannot quantize this model: {error}\nExport it without --quantize."
        ) from None
    finally:
        logging.disable(disabled)
        prepared.unlink(missing_ok=True)
