"""What all decorators share: wrapping a callable so that nothing of it is lost."""
