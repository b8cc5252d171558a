"""Losses as pure functions: keyword-only hyperparameters, scalar returns, weights in the config."""
