"""Write SHA256SUMS of the shipped weights in the format of `sha256sum`, on every platform."""

from __future__ import annotations

from megaportraits import weights


def main() -> None:
    """Hash every shipped file. The package refuses shipped weights whose hash is not in the list."""
    root = weights.assets()
    lines = (f"{weights.sha256_of(path)}  {path.relative_to(root).as_posix()}\n" for path in weights.shipped())
    (root / weights.HASHES).write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
