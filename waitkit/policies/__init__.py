"""Policies: retry, rate and polling, as pure state machines. Time and chance are arguments; nothing waits here."""
