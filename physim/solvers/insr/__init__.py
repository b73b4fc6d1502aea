"""Weight-space solver: the weights of a field of space follow a differential equation."""
