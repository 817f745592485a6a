"""What can be wrong with a file, each under its own name; all are ValueErrors, with one line that says it."""


class CodecError(ValueError):
    """A file that cannot be decoded as it is, or by this model."""


class NotADjxFile(CodecError):
    pass


class UnsupportedVersion(CodecError):
    pass


class HeaderCorrupt(CodecError):
    pass


class ModelMismatch(CodecError):
    pass


class EnvironmentMismatch(CodecError):
    pass


class TruncatedStream(CodecError):
    pass


class CorruptStream(CodecError):
    pass
