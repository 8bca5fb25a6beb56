"""A bench file as the commands that need no protocol read it: by path or name, with fields changed."""

import pytest

from hil.bench import bench_document
from hil.core.errors import ConfigError
from hil.experiment.bench_file import BenchFile


@pytest.mark.parametrize("prefix", ["", "bench."])
def test_fields_are_changed_with_and_without_their_prefix(prefix: str) -> None:
    document = bench_document("divider", [f"{prefix}virtual.seed=41"])
    assert document.model(BenchFile).virtual.seed == 41
    assert bench_document("divider").model(BenchFile).virtual.seed != 41


@pytest.mark.parametrize("setting", ["virtual.seed", "bench.virtual.seed", ""])
def test_a_setting_without_a_value_is_refused_and_changes_nothing(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set {setting}: write --set path=value"):
        bench_document("divider", [setting])


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no bench file 'dividre'"):
        bench_document("dividre")
