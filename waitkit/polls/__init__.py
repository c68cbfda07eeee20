"""Floor 3, polling: functions that run again and again, stopped at once, triggered at once, and not ended by an error."""
