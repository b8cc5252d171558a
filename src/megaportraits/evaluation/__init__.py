"""How good a model is: metrics, the protocols they belong to, floors to beat, reports."""
