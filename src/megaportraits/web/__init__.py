"""Web pages: animating a photograph, the user study."""
