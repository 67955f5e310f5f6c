"""The one error that users meet."""


class UnseenError(ValueError):
    """Bad input: the message says what is wrong, the value got, what is allowed, and the next step."""
