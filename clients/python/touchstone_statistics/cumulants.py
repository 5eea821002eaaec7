"""The power series of log E[exp(z X)] for beta and gamma variables and for their logarithms.

All coefficients are those of z^3, z^4, ... in units of a given standard deviation, orders + cells:
what `Series` is made of. Nothing cancels in them, however close a rate is to 0 or to 1.
"""

import numpy as np

from touchstone_statistics.gaps import FloatArray

FIRST = 3
"""The first order: mean and variance are known apart."""
LATER = 5
"""So many more powers the corrections to the leading term need."""


def of_beta(a: FloatArray, b: FloatArray, std_dev: FloatArray, highest: int) -> FloatArray:
    """Of a beta variable with shapes a and b.

    Its moment generating function is Kummer's M(a, n, z), n = a + b (Johnson, Kotz and Balakrishnan
    1995, "Continuous univariate distributions" 2, section 25.3). From Kummer's equation (Abramowitz
    and Stegun 1964, 13.1.1) the derivative of its logarithm, sum u_k z^k, has u_1 = m (1 - m) /
    (n + 1) and (n + k) u_k = (1 - 2 m) u_(k-1) - sum of u_i u_j over i + j = k - 1 with i, j >= 1,
    where m = a / n.
    """
    total = a + b
    lean = (b - a) / total / std_dev
    slopes = np.empty((highest, a.size))
    slopes[0] = 0.0
    slopes[1] = a * b / (total**2 * (total + 1.0)) / std_dev**2
    for order in range(2, highest):
        half = order // 2
        pairs = (slopes[1:half] * slopes[order - 2 : order - 1 - half : -1]).sum(axis=0)
        pairs *= 2.0
        if order % 2:
            pairs += slopes[half] ** 2
        slopes[order] = (lean * slopes[order - 1] - pairs) / (total + order)
    return np.asarray(slopes[FIRST - 1 :] / np.arange(FIRST, highest + 1)[:, None])


def of_gamma(shape: FloatArray, rate: FloatArray, std_dev: FloatArray, highest: int) -> FloatArray:
    """Of a gamma variable: -shape log(1 - z / rate)."""
    grown = _powers(1.0 / (rate * std_dev), highest)[FIRST - 1 :]
    return np.asarray(shape * grown / np.arange(FIRST, highest + 1)[:, None])


def of_log(a: FloatArray, b: FloatArray | None, std_dev: FloatArray, highest: int) -> FloatArray:
    """Of the logarithm of a beta variable with shapes a and b or, without b, of a gamma variable of
    shape a.

    The logarithm of Gamma(a + z) / Gamma(a + b + z) by Stirling's series (Abramowitz and Stegun
    1964, 6.4.11), good to 1e-13 of the leading coefficient from 100 on.
    """
    k = np.arange(FIRST, highest + 1)[:, None].astype(np.float64)
    count = k.size
    less = _lessened(a, b, std_dev, highest + LATER)

    def lessened(more: int) -> FloatArray:
        """Of power k + `more`."""
        begin = FIRST + more - 1
        return less[begin : begin + count]

    found = lessened(-1) / (k * (k - 1.0) * std_dev) + lessened(0) / (2.0 * k)
    found += lessened(1) * (std_dev / 12.0)
    found -= lessened(3) * ((k + 1.0) * (k + 2.0) / 720.0 * std_dev**3)
    grown = (k + 1.0) * (k + 2.0) * (k + 3.0) * (k + 4.0)
    found += lessened(5) * (grown / 30240.0 * std_dev**5)
    found[k[:, 0] % 2 == 1] *= -1.0
    return np.asarray(found)


def of_log_moments(a: FloatArray, b: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the logarithm of such a variable over its mean.

    Abramowitz and Stegun 1964, 6.3.18 and 6.4.12.
    """
    less = _lessened(a, b, np.ones_like(a), 9)
    mean = -less[0] / 2.0 - less[1] / 12.0 + less[3] / 120.0 - less[5] / 252.0 + less[7] / 240.0
    variance = less[0] + less[1] / 2.0 + less[2] / 6.0
    variance += -less[4] / 30.0 + less[6] / 42.0 - less[8] / 30.0
    return mean, variance


def mirrored(terms: FloatArray) -> FloatArray:
    """Of the negative of the variable."""
    turned = terms.copy()
    turned[::2] *= -1.0
    return turned


def _lessened(a: FloatArray, b: FloatArray | None, std_dev: FloatArray, highest: int) -> FloatArray:
    """a^-k - (a + b)^-k in units of the standard deviation, for k = 1, 2, ...; the difference of
    each power follows from the one before by a sum of positive numbers. Without b it is a^-k.
    """
    own = 1.0 / (a * std_dev)
    if b is None:
        return _powers(own, highest)
    other = 1.0 / ((a + b) * std_dev)
    power = b / (a * (a + b) * std_dev)
    less = np.empty((highest, a.size))
    less[0] = power
    for row in range(1, highest):
        power = power * other
        less[row] = less[row - 1] * own + power
    return less


def _powers(base: FloatArray, highest: int) -> FloatArray:
    found = np.empty((highest, base.size))
    found[0] = base
    for row in range(1, highest):
        np.multiply(found[row - 1], base, out=found[row])
    return found
