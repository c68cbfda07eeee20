"""Floor 2, upper half: conditions, their algebra, and what of the standard library can be one."""
