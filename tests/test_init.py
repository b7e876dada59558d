import subprocess
import sys

import pytest

import omib_spatial as omib


def test_import_is_light():
    heavy = "{'torch', 'scanpy', 'squidpy', 'anndata', 'pandas'}"
    code = f"import sys, omib_spatial; loaded = {heavy} & set(sys.modules); sys.exit(str(loaded) if loaded else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", omib.__all__)
def test_everything_named_is_there(name):
    assert getattr(omib, name) is not None


def test_unknown_names_say_so():
    with pytest.raises(AttributeError, match="nothing_here"):
        omib.nothing_here  # noqa: B018
