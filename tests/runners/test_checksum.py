"""Tests of mazejax.runners.checksum."""

import numpy as np
import pytest

from mazejax.runners.checksum import masked_crc32c


@pytest.mark.parametrize("size", [0, 1, 8, 2047, 2048, 2049, 2111, 2112, 5000, 20001])
def test_checksums_are_those_of_tensorboardx(size):
    from tensorboardX.record_writer import masked_crc32c as expected

    data = np.random.default_rng(size).bytes(size)
    assert masked_crc32c(data) == expected(data)
    zeros = bytes(size)
    assert masked_crc32c(zeros) == expected(zeros)
