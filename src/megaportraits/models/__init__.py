"""The networks of the paper; `base.py` reads top to bottom as Figure 2."""
