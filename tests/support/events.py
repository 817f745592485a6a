"""What TensorBoard reads in a folder."""

import struct

from tensorboardX.proto import event_pb2


def events(folder):
    """Of all event files, in order; TFRecord: length, its checksum, content, its checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            yield event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4


def scalars(folder):
    """The step, name and value of every number."""
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]
