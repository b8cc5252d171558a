"""Functions without parameters: geometry, warping, shape checks."""
