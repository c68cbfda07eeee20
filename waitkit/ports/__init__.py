"""Floor 3, ports: whether one is listened on, free, or held, and by whom; and the reservation of one."""
