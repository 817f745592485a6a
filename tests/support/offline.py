"""What Weights & Biases records on this machine: a log of blocks, as LevelDB's, of its own messages."""

import json
import struct
import time

BLOCK, HEAD = 32_768, 7  # of every block, and of every record in one: checksum, length, type
FULL, LAST = 1, 4


def rows(folder):
    """The numbers that each offline run of a folder holds, one dictionary for each step."""
    return [list(steps(path)) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def steps(path):
    """The steps of a run that has ended; the library writes in a process of its own, after the run's end too."""
    from wandb.proto import wandb_internal_pb2

    for _ in range(300):
        messages = [
            wandb_internal_pb2.Record.FromString(each) for each in records(path.read_bytes())
        ]
        if any(each.WhichOneof("record_type") == "exit" for each in messages):
            break
        time.sleep(0.1)
    for message in messages:
        if message.WhichOneof("record_type") == "history":
            items = message.history.item
            names = [item.key or ".".join(item.nested_key) for item in items]
            values = [json.loads(item.value_json) for item in items]
            yield dict(zip(names, values, strict=True))


def records(log):
    """The records of a log, of which a block may hold parts; the file begins with a head of its own."""
    place, parts = 7, []
    while place + HEAD <= len(log):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        parts.append(log[place + HEAD : place + HEAD + length])
        place += HEAD + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
