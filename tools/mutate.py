"""Change the code's meaning a little, one change at a time, and see whether the tests notice: `make mutate`."""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
MUTATIONS = Path(__file__).with_name("mutations.yml")
# Of a hundred changes, so many must be noticed.
CAUGHT_PERCENT = 90
SECONDS = 600


@dataclass(frozen=True)
class Mutation:
    """A text in a file, what takes its place, and the test files (without ending) that must notice."""

    file: str
    was: str
    now: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str | None:
        """Return the changed text of the file; None where the code is not as it was when the change was written."""
        return text.replace(self.was, self.now) if text.count(self.was) == 1 else None


def mutations() -> list[Mutation]:
    """Read them all."""
    return [
        Mutation(one["file"], one["was"], one["now"], tuple(one["tests"]))
        for one in yaml.safe_load(MUTATIONS.read_text(encoding="utf-8"))
    ]


def main(wanted: list[str]) -> int:
    """Try the changes whose file's path contains one of the words; all without a word."""
    chosen = [one for one in mutations() if not wanted or any(word in one.file for word in wanted)]
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
        for mutation in chosen:
            said = _try(copy, mutation)
            seen[said] += 1
            print(f"{said:<9} {mutation.file}: {mutation.was.splitlines()[0]} -> {mutation.now}", flush=True)
    print(", ".join(f"{count} {said}" for said, count in seen.most_common()))
    return 0 if chosen and seen["caught"] * 100 >= CAUGHT_PERCENT * len(chosen) else 1


def _try(copy: Path, mutation: Mutation) -> str:
    path = copy / mutation.file
    text = path.read_text(encoding="utf-8")
    changed = mutation.applied(text)
    if changed is None:
        return "stale"
    tests = [f"tests/{name}.py" for name in mutation.tests]
    path.write_text(changed, encoding="utf-8")
    try:
        # -B: bytecode of the change must not outlive it
        command = [sys.executable, "-B", "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "caught"
    finally:
        path.write_text(text, encoding="utf-8")
    if done.returncode not in (0, 1, 2):  # 2: the change breaks an import
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return "caught" if done.returncode else "survived"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
