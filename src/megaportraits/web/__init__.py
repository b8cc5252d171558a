"""Web pages: the user study."""
