"""Methods that an evaluation compares: models, students, other programs' videos, and learning-free baselines."""
