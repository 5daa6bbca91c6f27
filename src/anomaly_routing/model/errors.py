"""Why a training stops."""


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says what to change."""


class OutOfTimeError(TrainingError):
    """The deadline came first; the state file, if there is one, keeps the epochs that were done."""
