"""The paper's figures, and those of its successors, one file each."""
