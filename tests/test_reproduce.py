"""`docs/reproduce.md` and its miniature have the same commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from megaportraits.config import (
    TrainBaseConfig,
    TrainEnhancerConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
    TrainStudentConfig,
    load_config,
)
from tests.test_readme import program_words
from tools.reproduce.__main__ import Runner, Step, plan
from tools.reproduce.page import CONFIGS, Command, read_commands, resumed, shrink

STAGES = ["prepare", "train gaze", "train head-pose", "train base", "train enhancer", "distill", "pairs", "evaluate"]
SCHEMAS = {
    "paper-hr": TrainEnhancerConfig,
    "paper": TrainBaseConfig,
    "gaze": TrainGazeConfig,
    "head-pose": TrainHeadPoseConfig,
    "student": TrainStudentConfig,
}


def program(command: Command) -> str:
    """The program's own part of a line, behind torchrun too."""
    line = command.text
    return line[line.index("megaportraits") :]


def test_the_page_has_every_stage_in_the_order_of_dependencies() -> None:
    names = [command.name for command in read_commands()]
    firsts = [names.index(name) for name in [*STAGES, "ablate", "study make", "study serve", "study report"]]
    assert firsts == sorted(firsts)


def test_every_input_of_a_command_is_a_corpus_or_an_output_of_an_earlier_one() -> None:
    made = {"corpora"}
    for command in read_commands():
        outputs = {value for option in ("--out", "-o") if (value := command.value(option))}
        words = [part for word in command.words for part in word.replace("+", "=").split("=")]
        for word in words:
            if word.split("/")[0] in ("data", "runs", "out") and word not in outputs:
                places = {word, *map(str, Path(word).parents)}
                assert places & made, f"{command.text}: {word} is not made by an earlier command"
        made |= outputs | {f"{Path(output).with_suffix('')}{part}" for output in outputs for part in ("-run", ".media")}


@pytest.mark.parametrize("command", read_commands(), ids=lambda command: command.name)
def test_the_miniature_of_a_command_differs_in_numbers_only(command: Command) -> None:
    small = shrink(command)
    (mine, words), (pages, before) = program_words(program(small)), program_words(program(command))
    assert mine is pages
    now, then = (mine.make_context("page", list(line)).params for line in (words, before))
    changed = {name for name in now if now[name] != then[name]}
    numbers = {name for name in changed if isinstance(now[name], int | float) or not then[name]}
    assert changed - numbers <= {"config", "overrides"}


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_a_tiny_config_keeps_the_papers_options(config: str) -> None:
    name = config.removesuffix(".yaml")
    schema = SCHEMAS[next(part for part in SCHEMAS if name.startswith(part))]
    tiny, paper = load_config(schema, CONFIGS / config), load_config(schema, name)
    for section in ("data", "loss", "model", "optim"):
        ours, theirs = (getattr(x, section, None) for x in (tiny, paper))
        for field in type(ours).model_fields if ours is not None else ():
            value, known = getattr(ours, field), getattr(theirs, field)
            if isinstance(value, bool) and field != "pretrained":
                assert value == known, f"{config}: {section}.{field}"


def test_a_torchrun_line_trains_with_fewer_processes() -> None:
    words = ("torchrun", "--nproc_per_node", "8", "-m", "megaportraits", "train", "base", "--set", "run.devices=8")
    small = shrink(Command("", words))
    assert small.words[:5] == ("torchrun", "--nproc_per_node", "2", "-m", "megaportraits")
    assert "run.devices=2" in small.words and "run.devices=8" not in small.words


def test_a_size_that_the_miniature_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="--size 700"):
        shrink(Command("", ("megaportraits", "prepare", "--size", "700")))


def test_a_run_that_has_begun_is_resumed(tmp_path: Path) -> None:
    train = Command("", ("megaportraits", "train", "base", "--out", "run"))
    student = Command("", ("megaportraits", "distill", "-o", "s/student.safetensors"))
    assert resumed(train, tmp_path) == train and resumed(student, tmp_path) == student
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").touch()
    (tmp_path / "s/student-run").mkdir(parents=True)
    assert resumed(train, tmp_path).words[-1] == resumed(student, tmp_path).words[-1] == "--resume"


def script(folder: Path, name: str, text: str) -> Step:
    """A step that runs a module of the folder."""
    (folder / f"{name}.py").write_text(text)
    return Step(name, Command(name, ("python", "-m", name)))


def test_a_failed_command_is_shown_and_a_second_run_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    steps = [
        script(tmp_path, "first", "from pathlib import Path; Path('count').open('a').write('x')"),
        script(tmp_path, "second", "import os, sys; sys.exit(0 if os.path.exists('ok') else 'no')"),
    ]
    told: list[str] = []
    assert not Runner(tmp_path / "out", told.append).run(steps)
    assert "no" in told[-2] and told[-1].startswith("FAILED with exit code 1") and "python -m second" in told[-1]
    (tmp_path / "out/ok").touch()
    assert Runner(tmp_path / "out", told.append).run(steps)
    assert (tmp_path / "out/count").read_text() == "x"


def test_the_miniature_begins_with_its_own_corpora() -> None:
    first, *others = plan()
    assert first.command.name == "corpora" and first.stands_for
    assert [shrink(command) for command in read_commands()] == [x.command for x in others if not x.stands_for]


def test_a_folder_that_other_commands_have_filled_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told: list[str] = []
    assert Runner(tmp_path / "out", told.append).run([script(tmp_path, "one", "")])
    assert not Runner(tmp_path / "out", told.append).run([script(tmp_path, "two", "open('two', 'w')")])
    assert "choose another --out" in told[-1] and not (tmp_path / "out/two").exists()
