"""Exported graphs outside torch: one call for onnxruntime and OpenVINO, and what a file says about itself."""

from megaportraits.runtimes.graph import RUNTIMES, Arrays, Graph, GraphInfo, available_runtimes, open_graph, read_info

__all__ = ["RUNTIMES", "Arrays", "Graph", "GraphInfo", "available_runtimes", "open_graph", "read_info"]
