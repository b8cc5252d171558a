"""Metrics: image quality, identity, motion, flicker, detail, and their statistics."""
