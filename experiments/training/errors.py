"""Errors of a user's input: one line on stderr and exit code 2."""

import sys


class InputError(ValueError):
    """Names the value, the rule and the nearest valid choice, in one line."""

    def __init__(self, name, value, rule, nearest):
        super().__init__(f"{name} = {value}: must be {rule}; nearest valid choice: {nearest}")


def exit_on_input_error(main):
    """main(), whose InputError becomes one line and exit code 2."""
    try:
        return main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
