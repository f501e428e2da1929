"""The families' table: it and the oracle, which shares nothing with it, know the same networks; and what a row must have."""

from __future__ import annotations

import re

import pytest

from npresnet.network.architecture import Architecture, parse_architecture
from npresnet.network.families import FAMILIES, OWN
from npresnet.verify.oracle import BUILDERS


def test_the_oracle_has_every_family():
    assert set(BUILDERS) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_oracle_has_the_same_depths_and_options(family):
    row, builder = FAMILIES[family], BUILDERS[family]
    assert dict(builder.depths) == dict(row.blocks)
    assert builder.options == row.options
    assert builder.classifier == row.classifier


@pytest.mark.parametrize("family", FAMILIES)
def test_options_are_what_architectures_have(family):
    """The usual value of each comes first: that of the standard network."""
    row = FAMILIES[family]
    standard = Architecture.standard(row, row.depths[0])
    usual = {"pool": row.pool}
    for option, values in row.options.items():
        assert values[:1] in ((), (usual.get(option, getattr(standard, option)),))
    for pattern in row.signs:
        re.compile(pattern)


def test_users_can_ask_for_every_network():
    for row in FAMILIES.values():
        for depth in row.depths:
            assert (row, depth) in parse_architecture(Architecture(row, depth).name).candidates
    assert Architecture.named("matterport/resnet101") == Architecture.standard(FAMILIES["matterport"], 101)


def test_a_network_of_its_own_is_in_no_row():
    assert OWN.name not in FAMILIES
    assert OWN.depths == ()
    assert OWN.options == {}
