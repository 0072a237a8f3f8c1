"""Uploads images, histograms, texts and tables as MLflow artifacts.

File names contain the step and nothing random, so a repeated upload replaces the earlier one.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsweep.folders.rundir import Media, Record, RunDir

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: The longer side of the thumbnail that MLflow shows in its charts, in pixels.
_SMALL = 256


def send_media(client: MlflowClient, run_id: str, run: RunDir, record: Record) -> None:
    """Uploads a record's media.

    Images have the form of ``mlflow.log_image(key=…, step=…)``, tables that of
    ``mlflow.log_table``. MLflow has no histograms; their counts become a JSON file.
    """
    for name, media in record.media.items():
        key = re.sub(r"[^\w.\-~ ]", "_", name.replace("/", "~"))
        with tempfile.TemporaryDirectory() as folder:
            kind = media["kind"]
            files = Path(folder)
            if kind == "image":
                _write_image(files, f"{key}+step+{record.step}", run.path / media["file"], record)
                client.set_tag(run_id, "mlflow.loggedImages", True)
            elif kind == "text":
                (files / f"{key}-{record.step:08d}.txt").write_text(media["text"])
            else:
                text = json.dumps(_split(media) if kind == "table" else media)
                (files / f"{key}-{record.step:08d}.json").write_text(text)
            client.log_artifacts(run_id, folder, f"{kind}s")


def _write_image(folder: Path, name: str, png: Path, record: Record) -> None:
    """Writes the image and its thumbnail, with the names that MLflow's charts look for."""
    from PIL import Image

    unique = hashlib.sha256(name.encode()).hexdigest()[:32]
    whole = f"{name}+timestamp+{round(record.time * 1000)}+{unique}"
    (folder / f"{whole}.png").write_bytes(png.read_bytes())
    with Image.open(png) as image:
        small = image.convert("RGBA" if image.mode == "RGBA" else "RGB")
        small.thumbnail((_SMALL, _SMALL))
        file = io.BytesIO()
        small.save(file, format="WEBP")
    (folder / f"{whole}+compressed.webp").write_bytes(file.getvalue())


def _split(table: Media) -> dict[str, Any]:
    """Converts a table to the orientation that MLflow reads."""
    rows = table["rows"]
    return {"columns": table["columns"], "index": list(range(len(rows))), "data": rows}
