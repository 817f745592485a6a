"""Diffusion in continuous time: Song et al. 2021 (arXiv:2011.13456), and NCSN's Langevin dynamics (arXiv:1907.05600)."""
