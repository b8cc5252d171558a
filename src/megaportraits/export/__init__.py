"""Trained networks as ONNX files: graphs, precisions, and what each costs in quality."""

from megaportraits.export.base import export_base
from megaportraits.export.student import export_student

__all__ = ["export_base", "export_student"]
