"""Exports trained models: to ONNX, SavedModel, LiteRT, ``torch.export`` and ``.keras`` files."""
