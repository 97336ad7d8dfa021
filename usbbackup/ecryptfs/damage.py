"""What is wrong with one entry of an encrypted home: it is told, and the others go on."""


class DamagedError(Exception):
    """It cannot be decrypted; the message completes the sentence 'it ...'."""


class UnsupportedError(DamagedError):
    """It is whole as far as can be seen, but encrypted in a way that is not known here."""
