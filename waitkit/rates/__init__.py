"""Floor 3, rates: calls that keep to a rate, in the order they came, without polling and without a thread."""
