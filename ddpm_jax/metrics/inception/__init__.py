"""Inception v3 of 2015, the feature network of FID and Inception Score."""
