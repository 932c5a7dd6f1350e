"""Whatever is wrong with a file or an option: one line, exit status 2. `python -m tests.fuzz` tries thousands."""

import pytest

from tests.fuzz import ground as good
from tests.fuzz.run import run_argv, run_case

SEED, CASES, TESTS = 14, 500, 20


@pytest.fixture(scope="module")
def ground(debug_bundle, tmp_path_factory):
    return good.make_ground(tmp_path_factory.mktemp("ground"), debug_bundle.parent)


@pytest.mark.slow
def test_nothing_is_wrong_on_the_ground(ground, tmp_path):
    """Else a case would end at a fault that is not its own."""
    for number, command in enumerate((*good.EVERY, *good.OTHERS)):
        folder = tmp_path / str(number)
        (folder / "here").mkdir(parents=True)
        good.copy(ground, folder / "here", command.needs)
        status, said = run_argv(command.argv(), folder)
        wrong = [line for line in said.splitlines() if not line.startswith("cogstyle: note: no training caption")]
        assert (status, wrong) == (0, []), command


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, CASES, CASES // TESTS))
def test_seeded_cases(ground, tmp_path, first):
    found = [
        (number, *run_case(SEED, number, ground, tmp_path / "case")) for number in range(first, first + CASES // TESTS)
    ]
    wrong = [f"--seed {SEED} --case {number}: {why}\n    {said}" for number, why, said in found if why]
    assert not wrong, "\n".join(wrong)
