from __future__ import annotations

import argparse

import pytest

from omnisource.cli.arguments import num_bytes, share


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9),
        ("0.1MB", 100_000),
        ("200KB", 200_000),
        ("200kB", 200_000),
        ("200kb", 200_000),
        ("1.5 gb", 1_500_000_000),
        (".5MB", 500_000),
        ("64KiB", 65_536),
        ("2MiB", 2**21),
        ("1gib", 2**30),
        ("0.25TiB", 2**38),
        ("4096B", 4096),
        ("1.1TB", 1_100_000_000_000),
    ],
)
def test_size_with_its_unit_in_bytes(text: str, size: int) -> None:
    assert num_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1", "1G", "GB", "-1GB", "0MB", "0.1B", "1,5GB", "1e3MB", "1GBps", "1iB", "٣MB"])
def test_other_sizes_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="KiB, MiB, GiB or TiB, such as 200MB or"):
        num_bytes(text)


def test_share_as_a_number_or_in_percent() -> None:
    assert (share("0.2"), share("20%"), share("12.5 %")) == (0.2, 0.2, 0.125)
    for text in ("a fifth", "%", "20%%"):
        with pytest.raises(argparse.ArgumentTypeError, match="wants a share, such as"):
            share(text)
