"""Building blocks with parameters: residual blocks, adaptive norms, backbones."""
