"""What this module raises."""

INVALID_ARGUMENT, UNSUPPORTED = 1, 2  # MobalabStatus


class Error(RuntimeError):
    """A call that was refused or failed: `code` is its MobalabStatus, the text names the value, the rule and the
    nearest valid choice. What is refused for a value is an InvalidValue (and so a ValueError), for a kind or dtype an
    InvalidType (and so a TypeError)."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code

    def __reduce__(self):  # without it pickle calls type(self)(message), and a multiprocessing pool waits for ever
        return type(self), (self.code, str(self))


class InvalidValue(Error, ValueError):
    """An argument with a value, shape, device or layout that the call does not take."""


class InvalidType(Error, TypeError):
    """An argument of a kind or dtype that the call does not take."""


def invalid(name, value, rule, nearest):
    return InvalidValue(INVALID_ARGUMENT, f"{name} {value}: must be {rule}; nearest valid choice: {nearest}")


def invalid_type(name, value, rule, nearest):
    return InvalidType(INVALID_ARGUMENT, f"{name} {value}: must be {rule}; nearest valid choice: {nearest}")
