"""Trained networks as ONNX files: graphs, precisions, and what each costs in quality."""
