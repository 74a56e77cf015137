"""Towers as graphs: ONNX, and programs of torch, each with its preprocess as JSON."""
