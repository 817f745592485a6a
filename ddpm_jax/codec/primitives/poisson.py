"""The Poisson functional representation: the textbook way to code a draw from q, a baseline for the trellis.

Li and El Gamal 2018; Gaussians are coded in chunks as in DiffC (arXiv:2206.08889, arXiv:2501.09815). It
samples q exactly if the search is not cut short, and its index costs about 3 bits a chunk beyond the KL.
"""

import numpy as np
from jaxtyping import Float, Int64
from scipy import special

from ddpm_jax.codec.primitives import shared_noise, trellis

CHUNK = 8.0  # bits of KL that a search over 2^18 candidates can handle


def draw(
    seed: tuple[bytes, int, int], mean: Float[np.ndarray, " d"], rho2: float, candidates: int
) -> tuple[int, Float[np.ndarray, " d"]]:
    """Draws candidates from p = N(0, 1) and picks one that is a sample of q = N(mean, rho2).

    Returns its number, from 1, and its value.
    """

    def key(domain: str) -> tuple[int, int]:
        return shared_noise.make_key(*seed, domain)

    noise = shared_noise.normal(key("candidates"), candidates * len(mean)) * trellis.SCALE
    z = noise.reshape(candidates, len(mean))
    uniform = (shared_noise.words(key("arrivals"), candidates) + 0.5) / 2.0**32
    ratio = 0.5 * (z * z - (z - mean) ** 2 / rho2).sum(axis=1)
    chosen = int(np.argmin(np.log(np.cumsum(-np.log(uniform))) - ratio))
    return chosen + 1, z[chosen]


def bits(index: int | Int64[np.ndarray, " n"], kl: float) -> float | Float[np.ndarray, " n"]:
    """Code length of an index under the Zipf distribution that suits a chunk of 'kl' bits."""
    power = 1.0 + 1.0 / (kl + 1.53)
    return power * np.log2(index) + np.log2(special.zeta(power))


def indices(kl: float, draws: int, candidates: int, seed: int = 0) -> Int64[np.ndarray, " n"]:
    """Draws the indices of chunks of 'kl' bits. Only a chunk's noise along the mean matters."""
    random, shift = np.random.default_rng(seed), np.sqrt(2.0 * np.log(2.0) * kl)
    result = np.empty(draws, np.int64)
    for number in range(draws):
        along = random.standard_normal(candidates, np.float32)
        arrivals = np.cumsum(random.standard_exponential(candidates, np.float32))
        result[number] = np.argmin(np.log(arrivals) - shift * along) + 1
    return result


def bits_per_kl_bit(draws: int = 200, candidates: int = 1 << 18) -> float:
    """Bits of a file per bit of KL, coded in chunks of CHUNK."""
    return float(np.mean(bits(indices(CHUNK, draws, candidates), CHUNK))) / CHUNK
