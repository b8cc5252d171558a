"""Commands that bring rooms together which do not know each other: systems of the pipeline, measured and trained."""
