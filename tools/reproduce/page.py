"""The commands of `docs/reproduce.md`, read from the page in order and reduced in size.

Only `sh` blocks under a numbered heading (`## 3. The head-pose network`) are run; other blocks are for readers only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduce.md"
CONFIGS = Path(__file__).parent / "tiny"
PROCESSES = 2
"""Number of processes that torchrun starts in miniature, in place of the page's eight."""
_STAGE = re.compile(r"## (\d+)\. (.+)")


@dataclass(frozen=True)
class Command:
    """A command from the page.

    Attributes:
        stage: the heading above it, without its number.
        words: words of the command line, starting with `megaportraits` or `torchrun`.
    """

    stage: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Command and subcommand, such as `prepare` or `train base`; for a Python module its last part."""
        if self.words[0] == "python":
            return self.words[self.words.index("-m") + 1].rpartition(".")[2]
        own = self.words[self.words.index("megaportraits") + 1 :]
        return " ".join(own[:2]) if own[0] in ("train", "study", "student", "weights", "export") else own[0]

    @property
    def text(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.words)

    def value(self, option: str) -> str | None:
        """The value of an option; None if the option is not given."""
        return self.words[self.words.index(option) + 1] if option in self.words else None


@dataclass(frozen=True)
class Smaller:
    """How a command line changes in miniature.

    Attributes:
        values: for each option, its new value, or a map from the page's values to new ones.
        more: words that are appended.
    """

    values: Mapping[str, str | Mapping[str, str]]
    more: tuple[str, ...] = ()


def steps(count: int, batch: int) -> tuple[str, ...]:
    """Options that make a training run short."""
    return ("--set", f"optim.steps={count}", "--set", f"optim.batch_size={batch}")


SETTINGS = {"run.devices=8": f"run.devices={PROCESSES}", "data.workers=8": "data.workers=0"}
"""Values of --set that depend on the machine."""
SMALLER: dict[str, Smaller] = {
    # A network trained on real people cannot tell rendered people apart, so only their names distinguish them.
    "prepare": Smaller(
        {
            "--size": {"512": "128", "256": "64", "1024": "192"},
            "--min-crop": {"512": "128", "256": "64", "768": "128"},
            "--drop-iqa": {"0.5": "0.2", "0": "0"},
            "--workers": "1",
        },
        ("--same-person", "1.1"),
    ),
    "gaze-teacher": Smaller({"--frames": "60"}, ("--gaze", "corpora/rt_gene.onnx", "--blink", "corpora/rt_bene.onnx")),
    "train gaze": Smaller({}, steps(20, 16)),
    "train head-pose": Smaller({}, steps(20, 16)),
    "train base": Smaller({}, steps(30, 4)),
    "train enhancer": Smaller({}, steps(10, 4)),
    "distill": Smaller({"--frames": "16", "--teachers": str(PROCESSES), "--teacher-batch": "4"}, steps(10, 4)),
    "student reenact": Smaller(
        {"--avatars": "2", "--test-frames": "4", "--frames": "16", "--teachers": "1", "--teacher-batch": "4"},
        steps(10, 4),
    ),
    "student report": Smaller({"--pictures": "4"}),
    "pairs": Smaller({"--frames": "4", "--limit": "4"}),
    # Faces of 32 px, which the tiny paper-256 renders, are too small for the landmark network.
    "reference": Smaller({"--size": {"512": "64", "256": "64", "1024": "1024"}}),
    "evaluate": Smaller({"--size": {"512": "64", "256": "64"}}),
    "ablate": Smaller({"--samples": "8"}, ("--set", "optim.batch_size=4")),
    "study make": Smaller({"--questions": "4", "--gold": "1", "--per-voter": "6"}),
}
"""The changes for each command. A command that is not listed runs as it is on the page."""


def read_commands(page: Path = PAGE) -> list[Command]:
    """The commands under the page's numbered headings, in their order."""
    stage, found = "", []
    for heading, line in _shell_lines(page.read_text(encoding="utf-8")):
        numbered = _STAGE.fullmatch(heading)
        if numbered is None:
            continue
        stage = numbered[2]
        words = tuple(shlex.split(line, comments=True))
        if words:
            found.append(Command(stage, words))
    return found


def _shell_lines(text: str) -> Iterator[tuple[str, str]]:
    """Heading and logical line for every line in an `sh` block; lines that end in a backslash are joined."""
    heading, fence, begun = "", "", ""
    for line in text.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```sh":
            begun += line.removesuffix("\\")
            if not line.endswith("\\"):
                yield heading, begun
                begun = ""
        elif not fence and line.startswith("## "):
            heading = line


def shrink(command: Command) -> Command:
    """The same command in miniature: fewer processes, tiny configs, smaller numbers. Everything else is unchanged.

    Raises:
        ValueError: the page uses a value for which no smaller one is defined.
    """
    rule = SMALLER.get(command.name, Smaller({}))
    words = list(command.words)
    for at in range(len(words) - 1):
        words[at + 1] = _smaller(words[at], words[at + 1], rule)
    return Command(command.stage, (*words, *rule.more))


def _smaller(option: str, value: str, rule: Smaller) -> str:
    """The reduced value of an option."""
    if option == "--nproc_per_node":
        return str(PROCESSES)
    if option == "--config":
        config = CONFIGS / f"{value}.yaml"
        if not config.is_file():
            raise ValueError(f"{config} is missing: the page trains {value}")
        return str(config)
    if option == "--set":
        return SETTINGS.get(value, value)
    small = rule.values.get(option, value)
    if isinstance(small, str):
        return small
    if value not in small:
        raise ValueError(f"the page says {option} {value}; the miniature knows {', '.join(small)}")
    return small[value]


def resumed(command: Command, folder: Path) -> Command:
    """The command to run after an interruption: training gets --resume if its run has begun."""
    if command.name.startswith("train "):
        run = command.value("--out")
        begun = run is not None and (folder / run / "config.yaml").is_file()
    elif command.name == "student reenact":
        begun = (folder / (command.value("--out") or "") / "pairs.csv").is_file()
    elif command.name == "distill":
        begun = (folder / distill_run(command)).exists()
    else:
        begun = False
    return Command(command.stage, (*command.words, "--resume")) if begun else command


def distill_run(command: Command) -> Path:
    """The run folder of a `distill` line: --run, or `NAME-run` beside the student's file."""
    run, output = command.value("--run"), Path(command.value("-o") or "student.safetensors")
    return output.with_name(f"{output.stem}-run") if run is None else Path(run)
