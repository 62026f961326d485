"""What goes wrong with a lab itself. It is a test tool: its errors are not the engine's (skyplane_core/errors.py)."""


class LabError(RuntimeError):
    """The machine cannot carry a lab, or a part of one failed. The message says what, why and what to do."""
