import numpy as np
import pytest
from typer.testing import CliRunner

from omib_bench import fusions, rehearsal
from omib_spatial.cli.commands import app
from omib_spatial.datasets import cremad, mosi


def rehearse(task, folder, *more):
    arguments = ["bench", "rehearse", "--task", task, "--folder", str(folder), "--methods", "OMIB,Concat", *more]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(("task", "metric"), [("cremad", "accuracy"), ("mosi", "acc7")])
def test_from_made_up_files_to_the_table_and_the_real_command(tmp_path, task, metric):
    result = rehearse(task, tmp_path, "--max-epochs", "3")
    assert result.exit_code == 0, result.output
    assert metric in result.output and "OMIB" in result.output and "paper's" not in result.output
    assert f"omib-spatial bench fusions --task {task}" in result.output
    again = rehearse(task, tmp_path)
    assert again.exit_code != 0 and "holds files already" in str(again.output)


def test_clips_are_read_as_cremad_is_and_tell_the_emotions_apart(tmp_path):
    rehearsal.write_cremad(tmp_path, n_train=3, n_test=2)
    data = cremad(tmp_path, cache=tmp_path / "cache", **rehearsal.SMALL)
    assert len(data.ids) == 10 and set(data.groups) == {"1001", "1002", "1003"}
    bright = np.array([np.asarray(clip).mean() for clip in data.inputs["video"]])
    assert bright[data.target == 1].min() > bright[data.target == 0].max() + 50


def test_pickle_and_bert_are_read_as_mosi_is(tmp_path):
    rehearsal.write_mosi(tmp_path / "mosi.pkl", n_train=9, n_test=6)
    rehearsal.write_bert(tmp_path / "bert")
    data = mosi(tmp_path / "mosi.pkl", tokenizer=tmp_path / "bert")
    assert set(data.inputs) == {"text", "audio", "video"} and len(data.ids) == 9 + 12 + 6
    signs = {"good": 1, "bad": -1}
    said = np.array([signs[text.split()[-1]] for text in data.words])
    np.testing.assert_array_equal(np.sign(data.target), said)


def test_the_real_command_is_one_that_there_is():
    for command in rehearsal.COMMANDS.values():
        words = command.split()[1:]
        options = [word for word in words if word.startswith("--")]
        text = CliRunner().invoke(app, [*words[:2], "--help"], env={"COLUMNS": "200"}).output
        assert all(option in text for option in options)


def test_no_other_task():
    with pytest.raises(ValueError, match="choose one of"):
        rehearsal.run("pom", "nowhere", {"Concat": fusions.RIVALS["Concat"]})
