"""The scripts of scenarios/, one test each."""

import pathlib

import pytest

from conftest import Script

SCRIPTS = sorted(pathlib.Path(__file__).with_name("scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script(path, place):
    Script(path.read_text()).run(place)
