"""How good a model is: metrics, the protocols they belong to, baselines to beat, reports."""
