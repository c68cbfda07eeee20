"""Floor 2, lower half: what one wait is, whatever it waits for, and who drives it (a thread or an event loop)."""
