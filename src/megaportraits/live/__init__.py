"""From a camera to a screen while it happens: the newest frame, as soon as possible, by whatever runs fastest here."""
