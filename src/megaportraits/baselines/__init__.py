"""Networks of the methods that the paper compares with, after their papers; they train and are evaluated like ours."""
