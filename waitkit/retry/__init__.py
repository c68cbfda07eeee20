"""Floor 3, retry: calls that are tried again, after a backoff that a condition can cut short."""
