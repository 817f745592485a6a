"""The codec's modes: calibrate, compress, decompress, inspect."""
