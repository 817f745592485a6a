"""The errors of compressed files, all ValueErrors with a one-line message."""


class CodecError(ValueError):
    """A file cannot be decoded, or not with this model."""


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
