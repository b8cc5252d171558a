"""The networks of the paper. `base.py` follows Figure 2 from top to bottom."""
