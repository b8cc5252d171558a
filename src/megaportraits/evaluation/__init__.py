"""Evaluation of models: metrics, protocols, baselines and reports."""
