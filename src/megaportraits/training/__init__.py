"""Training: a stage says what a step is, the loop does the rest."""
