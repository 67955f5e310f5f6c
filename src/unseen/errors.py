"""The one error that users meet."""


class UnseenError(ValueError):
    """Bad input: the message says what is wrong, the value got, what is allowed, and the next step."""


def needs(extra: str, error: ImportError) -> UnseenError:
    """What to raise where a package of one of our extras is missing."""
    return UnseenError(f"This needs the package {error.name}, which is not installed. Install it: pip install 'unseen[{extra}]'.")
