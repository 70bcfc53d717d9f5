"""What goes wrong with data, told to the user in one line."""


class DataError(ValueError):
    """The data cannot be used as given. One line: key and value, what is wrong, the mend."""
