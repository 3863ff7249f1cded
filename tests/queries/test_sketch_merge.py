"""Log-histograms: within 1 % of percentile_disc, mergeable, subtractable."""

from __future__ import annotations

import random

import numpy as np
import pytest

from server.rollups import sketch
from tests.queries.metric_oracle import percentile

FRACTIONS = (0.0, 0.01, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_are_within_one_percent_of_percentile_disc(seed: int) -> None:
    chance = random.Random(seed)
    groups = [
        [chance.lognormvariate(chance.uniform(-3, 12), 2) for _ in range(chance.choice([0, 1, 2, 20, 700]))]
        for _ in range(9)
    ]
    merged = sketch.merge([sketch.pack(values) for values in groups], range(9), 9)
    for values, found in zip(groups, merged.quantiles(FRACTIONS).tolist(), strict=True):
        for fraction, value in zip(FRACTIONS, found, strict=True):
            wanted = percentile([max(item, sketch.SMALLEST) for item in values], fraction)
            assert (value != value) if wanted is None else value == pytest.approx(wanted, rel=sketch.RELATIVE_ERROR)


def test_concatenation_merges_and_a_negative_count_takes_back() -> None:
    whole = sketch.pack([1.0, 50.0, 3000.0])
    both = sketch.merge([whole + sketch.pack([7.0]), sketch.pack([50.0], sign=-1)], [0, 0], 1)
    assert both.counts.tolist() == [1, 1, 1]
    gone = sketch.merge([whole, sketch.pack([1.0, 50.0, 3000.0], sign=-1)], [0, 0], 1)
    assert gone.packed() == [b""]
    assert np.isnan(gone.quantiles([0.5])).all()


def test_packing_again_loses_nothing_even_beyond_int16() -> None:
    many = sketch.merge([sketch.pack([9.0] * 20_000)] * 7 + [sketch.pack([2.0], sign=-1)], [0] * 7 + [1], 2)
    again = sketch.merge(many.packed(), [0, 1], 2)
    assert again.counts.tolist() == many.counts.tolist() == [140_000, -1]
    assert again.bins.tolist() == many.bins.tolist()


def test_few_entries_in_many_groups_merge_alike() -> None:
    chance = random.Random(1)
    packed = [sketch.pack([chance.lognormvariate(5, 2) for _ in range(3)]) for _ in range(200)]
    owners = [chance.randrange(90_000) for _ in packed]
    sparse = sketch.merge(packed, owners, 90_000)
    for owner in set(owners):
        alone = sketch.merge(
            [item for item, of in zip(packed, owners, strict=True) if of == owner], [0] * owners.count(owner), 1
        )
        assert sparse.bins[sparse.group == owner].tolist() == alone.bins.tolist()


@pytest.mark.parametrize("part", [1, 6000, 1 << 18])
def test_merging_in_parts_gives_what_merging_at_once_gives(part: int) -> None:
    chance = random.Random(part)
    values = [[chance.lognormvariate(5, 2) for _ in range(chance.randrange(9))] for _ in range(300)]
    owners = [chance.choice([0, 1, 5, 8, 9, 70, 71, 400]) for _ in values]
    packed = [sketch.pack(item) for item in values]
    packed += [sketch.pack(item, sign=-1) for item, owner in zip(values, owners, strict=True) if owner == 71]
    owners += [71] * owners.count(71)
    whole = sketch.merge(packed, owners, 401).quantiles(FRACTIONS)
    found = np.full_like(whole, np.nan)
    seen: list[int] = []
    for groups, merged in sketch.merge_in_parts(packed, owners, part):
        seen += groups
        found[groups] = merged.quantiles(FRACTIONS)
    assert seen == sorted(set(owners))
    assert np.isnan(found[71]).all()
    np.testing.assert_array_equal(found, whole)


def test_nothing_merges_in_no_parts() -> None:
    assert list(sketch.merge_in_parts([], [])) == []


def test_a_value_on_a_bound_counts_under_that_bound() -> None:
    merged = sketch.merge([sketch.pack([1.0, 2.0, 2.5, 400.0])], [0], 1)
    assert merged.counts_up_to([1, 2, 5, 10]).tolist() == [[1, 1, 1, 0, 1]]


def test_extremes_stay_within_the_bins() -> None:
    assert sketch.bin_of(0.0) == sketch.bin_of(sketch.SMALLEST)
    assert sketch.bin_of(1e300) == sketch.bin_of(sketch.LARGEST)
    merged = sketch.merge([sketch.pack([0.0, 1e300])], [0], 1)
    assert merged.quantiles([0, 1]).tolist()[0] == pytest.approx([sketch.SMALLEST, sketch.LARGEST], rel=0.01)
