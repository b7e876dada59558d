import json
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from omib_spatial.stats.settings import CalibrationSettings


def test_settings_are_frozen_compare_by_value_and_survive_json():
    settings = CalibrationSettings(pooling_hops=1, between_slice_sd=(0.1, 0.2))
    with pytest.raises(FrozenInstanceError):
        settings.pooling_hops = 2
    stored = json.loads(json.dumps(asdict(settings)))
    assert CalibrationSettings(**stored | {"between_slice_sd": tuple(stored["between_slice_sd"])}) == settings
    assert settings != CalibrationSettings()


def test_every_setting_has_its_reason():
    for field in fields(CalibrationSettings):
        assert f"    {field.name}\n        " in CalibrationSettings.__doc__
