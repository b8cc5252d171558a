"""The command line: one typed function for each command, with heavy imports inside the functions."""
