"""What can be wrong with a compressed file: an exception each, all ValueErrors with a one-line message."""


class CodecError(ValueError):
    """A file cannot be decoded as it is, or not with this model."""


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
