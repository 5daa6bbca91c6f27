"""The one error of training."""


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says what to change."""
