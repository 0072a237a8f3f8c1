"""Exported models, each run in its own runtime: ONNX Runtime, a TensorFlow session."""
