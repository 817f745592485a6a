"""Lossless compression with a trained model: Section 4.3's progressive code as files."""
