"""Losses as pure functions with keyword-only hyperparameters and scalar results. Loss weights are in the config."""
