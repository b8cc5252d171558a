"""Training: a stage defines the losses of a step, the loop runs the steps."""
