#!/usr/bin/env python3
"""Makes the tagged versions of the sample app. Standard library only.

    versions.py list                 every version: tag, name, parent, what it does
    versions.py export NAME DIR      the tree of one version (NAME or tag) in DIR
    versions.py --out DIR            the trees of all of them in DIR/<tag>
    versions.py --out DIR --git      a git repository: a commit and a tag v<tag> each

A version is a folder in versions/: version.toml says from which parent it is derived
and which texts are replaced, files/ holds what it adds. The repository is the same to
the last bit wherever it is made.
"""

import argparse
import os
import re
import shutil
import subprocess  # nosec B404
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
OVERLAYS = HERE / "versions"
# What an app consists of; everything else here is about making versions of it.
SOURCES = (
    *(".coveragerc", ".flake8", ".gitignore", "Dockerfile", "MANIFEST.in"),
    *("pyproject.toml", "pytest.ini", "requirements.txt", "requirements-test.txt", "requirements-ci.txt"),
    *("setup.py", "start.py", "app", "migrations", "tests"),
)
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
SETUP_VERSION = re.compile(r'(?m)^(\s*version=")[^"]+(",)$')
FIRST_COMMIT_TIME = 1767258000  # 2026-01-01 09:00 UTC; one hour later per version
BRANCHES = ("main", "develop")


class VersionError(ValueError):
    """A version that can't be made as its folder says."""


@dataclass(frozen=True)
class Replacement:
    """A text that occurs exactly once in a file, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Version:
    """One folder in versions/."""

    name: str
    tag: str
    parent: str | None
    summary: str
    replacements: tuple[Replacement, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Semver order."""
        return tuple(int(part) for part in self.tag.split("."))

    @property
    def git_tag(self) -> str:
        """As TimeTracker names its tags."""
        return f"v{self.tag}"


def load_versions(folder: Path = OVERLAYS) -> dict[str, Version]:
    """All versions by name, in the order of their tags; parents come first."""
    found = [_load(file) for file in folder.glob("*/version.toml")]
    ordered = {version.name: version for version in sorted(found, key=_order)}
    seen: set[str] = set()
    for version in ordered.values():
        if version.parent is not None and version.parent not in seen:
            raise VersionError(
                f"{version.name}: parent {version.parent} is no older one"
            )
        seen.add(version.name)
    if len({version.tag for version in found}) != len(found):
        raise VersionError("two versions have the same tag")
    return ordered


def _order(version: Version) -> tuple[int, ...]:
    return version.order


def _load(file: Path) -> Version:
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    unknown = content.keys() - {"tag", "parent", "summary", "replace"}
    if unknown:
        raise VersionError(f"{file}: unknown keys {sorted(unknown)}")
    tag = content["tag"]
    if not re.fullmatch(r"\d+\.\d+\.\d+", tag):
        raise VersionError(f"{file}: {tag} is not of the form X.Y.Z")
    return Version(
        name=file.parent.name,
        tag=tag,
        parent=content.get("parent"),
        summary=content["summary"],
        replacements=tuple(Replacement(**r) for r in content.get("replace", [])),
    )


def find(versions: dict[str, Version], name_or_tag: str) -> Version:
    """A version by its name, its tag, or its tag with v."""
    for version in versions.values():
        if name_or_tag in {version.name, version.tag, version.git_tag}:
            return version
    raise VersionError(f"no version {name_or_tag}; there are {', '.join(versions)}")


def export(versions: dict[str, Version], version: Version, target: Path) -> None:
    """Writes the tree of a version into an empty or new directory."""
    if target.exists() and any(p.name != ".git" for p in target.iterdir()):
        raise VersionError(f"{target} is not empty")
    target.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        source = HERE / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=IGNORED)
        else:
            shutil.copy(source, target / name)
    for step in lineage(versions, version):
        _apply(step, target)
    setup = target / "setup.py"
    text, count = SETUP_VERSION.subn(
        rf"\g<1>{version.tag}\g<2>", setup.read_text(encoding="utf-8")
    )
    if count != 1:
        raise VersionError('setup.py has no line version="…",')
    setup.write_text(text, encoding="utf-8")


def lineage(versions: dict[str, Version], version: Version) -> list[Version]:
    """The version and everything it is derived from, the oldest first."""
    steps = [version]
    while steps[0].parent is not None:
        steps.insert(0, versions[steps[0].parent])
    return steps


def _apply(version: Version, target: Path) -> None:
    for change in version.replacements:
        file = target / change.file
        text = file.read_text(encoding="utf-8")
        if text.count(change.old) != 1:
            raise VersionError(
                f"{version.name}: in {change.file} this occurs "
                f"{text.count(change.old)} times instead of once: {change.old!r}"
            )
        file.write_text(text.replace(change.old, change.new), encoding="utf-8")
    added = OVERLAYS / version.name / "files"
    if added.is_dir():
        shutil.copytree(added, target, dirs_exist_ok=True, ignore=IGNORED)


def make_repository(versions: dict[str, Version], target: Path) -> None:
    """A repository; its branches end at the version with the longest lineage."""
    target.mkdir(parents=True)
    _git(target, "init", "--quiet", "--initial-branch=main")
    for index, version in enumerate(versions.values()):
        if version.parent is not None:
            parent = versions[version.parent]
            _git(target, "checkout", "--quiet", "--detach", parent.git_tag)
        for path in target.iterdir():
            if path.name == ".git":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        export(versions, version, target)
        _git(target, "add", "--all", "--force")
        time = FIRST_COMMIT_TIME + 3600 * index
        message = f"{version.summary}\n\nVersion {version.tag} ({version.name})"
        _git(target, "commit", "--quiet", f"--message={message}", time=time)
        _git(target, "tag", version.git_tag)
    newest = max(versions.values(), key=lambda v: len(lineage(versions, v)))
    for branch in BRANCHES:
        _git(target, "branch", "--force", branch, newest.git_tag)
    _git(target, "checkout", "--quiet", "main")
    # Also lets the plainest of HTTP servers serve it.
    _git(target, "update-server-info")


def _git(target: Path, *arguments: str, time: int = FIRST_COMMIT_TIME) -> None:
    identity = {"NAME": "timetracker sample", "EMAIL": "sample@timetracker.invalid"}
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "TZ": "UTC",
    }
    for who in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{who}_DATE"] = f"{time} +0000"
        for key, value in identity.items():
            environment[f"GIT_{who}_{key}"] = value
    subprocess.run(  # nosec B603 B607
        ["git", *arguments], cwd=target, env=environment, check=True
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="where everything goes")
    parser.add_argument("--git", action="store_true", help="one git repository")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list")
    one = commands.add_parser("export")
    one.add_argument("name", metavar="NAME")
    one.add_argument("directory", metavar="DIR", type=Path)
    given = parser.parse_args(arguments)
    try:
        versions = load_versions()
        if given.command == "list":
            for v in versions.values():
                print(f"{v.tag}\t{v.name}\t{v.parent or '-'}\t{v.summary}")
        elif given.command == "export":
            export(versions, find(versions, given.name), given.directory)
        elif given.out is None:
            parser.error("list, export NAME DIR, or --out DIR")
        elif given.git:
            make_repository(versions, given.out)
        else:
            for v in versions.values():
                export(versions, v, given.out / v.tag)
    except (VersionError, OSError, subprocess.CalledProcessError) as error:
        print(f"versions.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
