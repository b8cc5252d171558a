"""Run exported graphs without torch, in onnxruntime or OpenVINO, and read their metadata."""

from megaportraits.runtimes.graph import Arrays, Graph, GraphInfo, read_info
from megaportraits.runtimes.opening import available_runtimes, open_graph

__all__ = ["Arrays", "Graph", "GraphInfo", "available_runtimes", "open_graph", "read_info"]
