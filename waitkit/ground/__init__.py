"""Floor 0: durations, errors, records and settings. No thread and no I/O happen here."""
