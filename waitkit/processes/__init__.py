"""Floor 3, processes: started, proven ready, and gone when the block is left."""
