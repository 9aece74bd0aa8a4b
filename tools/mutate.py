"""Does the suite notice small changes of meaning? Each one is made in a copy of the project, and the tests run on it.

    uv run python tools/mutate.py                 # all of tools/mutations.yml, a table at the end
    uv run python tools/mutate.py --only T1,S3    # some of them
    uv run python tools/mutate.py --list

A mutation that no test notices is told as survived, with exit code 1. Text that is no longer in its file ends the
program: the list is kept with the code. It takes minutes to hours, and is no part of CI.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parent.parent
MUTATIONS = ROOT / "tools" / "mutations.yml"
# A mutation may make a loop endless: that is noticed, too.
SECONDS = 900


@dataclass(frozen=True)
class Mutation:
    """A change of meaning: `old` becomes `new` in `file`; `tests` are those that should notice."""

    id: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read() -> list[Mutation]:
    """Read the list, and check that each text stands once in its file."""
    found = [
        Mutation(str(one["id"]), one["what"], one["file"], one["old"], one["new"], tuple(one["tests"].split()))
        for one in yaml.safe_load(MUTATIONS.read_text(encoding="utf-8"))
    ]
    for mutation in found:
        times = (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old)
        if times != 1:
            raise SystemExit(f"{mutation.id}: its text stands {times} times in {mutation.file}, not once")
    return found


def caught(mutation: Mutation, folder: Path) -> bool:
    """Whether a test fails in a copy of the project that has the mutation."""
    path = folder / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *mutation.tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode not in (0, 1):  # neither passed nor failed: no test was found, or none could be collected
            print(done.stdout[-2000:], file=sys.stderr)
        return done.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Run the command line; the exit code is 1 where a mutation survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", default="", metavar="IDS", help="separated by commas")
    parser.add_argument("--list", action="store_true", help="name them, and stop")
    given = parser.parse_args()
    chosen = [one for one in read() if not given.only or one.id in given.only.split(",")]
    if given.list:
        print(*(f"{one.id:<5} {one.file:<24} {one.what}" for one in chosen), sep="\n")
        return 0
    survived = []
    with TemporaryDirectory(prefix="mutate-") as scratch:
        folder = Path(scratch) / "project"
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, tracked.stdout.split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        for one in chosen:
            noticed = caught(one, folder)
            survived += [] if noticed else [one.id]
            print(f"| {one.id} | {one.file} | {one.what} | {'caught' if noticed else '**survived**'} |", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
