import os
from itertools import count

from omib_bench import neighbours


def test_both_settings_are_timed_alone_and_beside_others(monkeypatch):
    asked, others, clock = [], [], count(1)

    def seconds(code: str) -> tuple[float, float]:
        asked.append((code, len(others)))
        return float(next(clock)), 1.0

    class Other:
        def __init__(self, command):
            others.append(command)

        def kill(self):
            others.pop()

        def wait(self):
            pass

    monkeypatch.setattr(neighbours, "_seconds", seconds)
    monkeypatch.setattr(neighbours.subprocess, "Popen", Other)
    records = neighbours.run(n_spots=200, say=lambda _: None)
    cores = os.cpu_count()
    assert [n for _, n in asked] == [0, cores, 0, cores] and not others
    assert ["n_threads = None" in code for code, _ in asked] == [True, True, False, False]
    values = {(row.setting, row.metric): row.value for row in records}
    assert values["default", "times_longer"] == 2 and values["all cores", "times_longer"] == 4 / 3


def test_a_fit_is_timed_without_openmps_variables(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert neighbours._seconds("import os; print('a', int('OMP_NUM_THREADS' in os.environ), 2)") == (0, 2)
