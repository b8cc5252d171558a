"""Export trained networks to ONNX: graphs, reduced precisions, and reports of quality, size and speed."""
