"""Virtual time: all waits of a test run on a clock that jumps to the next due time when every thread waits."""
