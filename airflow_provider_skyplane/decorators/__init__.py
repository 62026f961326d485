"""TaskFlow decorators on the engine."""
