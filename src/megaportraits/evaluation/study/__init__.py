"""The user study of the paper (4.3): which of two methods keeps motion, and which keeps appearance, better."""
