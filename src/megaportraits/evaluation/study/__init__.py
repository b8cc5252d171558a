"""The paper's user study (4.3): voters choose which of two methods preserves motion, or appearance, better."""
