"""Live animation from a camera to a screen, with low latency and the fastest available runtime."""
