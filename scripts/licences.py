"""The licences of all packages that partnerface installs, as a table in docs/licences.md.

python scripts/licences.py            # write the table from the installed packages
python scripts/licences.py --check    # fail if an installed package is not in it, or has another licence

The table covers partnerface, its extra `track` and everything that they require. Versions are in constraints.txt.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import tyro
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parent.parent / "docs" / "licences.md"
HEADER, RULE = "| package | licence | |", "|---|---|---|"
EXTRAS = ("", "track")
READ = {
    "cuda-toolkit": "NVIDIA proprietary",
    "embreex": "BSD-2-Clause",
    "gsplat": "Apache-2.0",
    "nerfacc": "MIT",
    "nuscenes-devkit": "Apache-2.0; data sets for non-commercial use",
    "smplx": "non-commercial scientific research (Max Planck Institute)",
    "vhacdx": "MIT",
}
"""Licences of packages whose metadata names none, or a wrong one, as their licence files say."""
MARKS = {
    "non-commercial": r"non-commercial",
    "proprietary, free to use": r"nvidia|proprietary",
    "copyleft": r"\bA?GPL|GNU General|\bGPL",
}
"""Licences that a distributor must look at, each with a pattern for it."""


def main(check: bool = False) -> None:
    """Write the table, or check it.

    Args:
        check: compare the page with the installed packages, and write nothing.
    """
    rows = {name: licence_of(metadata.distribution(name)) for name in sorted(required("partnerface"))}
    lines = {name: f"| {name} | {licence} | {mark_of(licence)} |" for name, licence in rows.items()}
    text = PAGE.read_text(encoding="utf8")
    before, _ = text.split(HEADER)
    if not check:
        PAGE.write_text(before + "\n".join([HEADER, RULE, *lines.values()]) + "\n", encoding="utf8")
        print(f"{PAGE}: {len(lines)} packages")
        return
    wrong = [line for line in lines.values() if line not in text.splitlines()]
    if wrong:
        sys.exit(f"{PAGE}: not in the table, or with another licence:\n" + "\n".join(wrong))
    print(f"{PAGE}: all {len(lines)} installed packages are in the table")


def required(root: str) -> set[str]:
    """Names of all installed packages that a package requires, directly or not."""
    found: set[str] = set()
    waiting = [(root, EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        for requirement in requirements(name, extras):
            needed = canonicalize_name(requirement.name)
            if needed not in found:
                found.add(needed)
                waiting.append((needed, ("", *requirement.extras)))
    return found


def requirements(name: str, extras: tuple[str, ...]) -> Iterator[Requirement]:
    """Requirements of a package on this machine, with some of its extras."""
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def licence_of(package: metadata.Distribution) -> str:
    """The licence by the package's metadata: its expression, classifiers, or the first line of its text.

    Raises:
        SystemExit: it has none. Read its licence file and add it to `READ`.
    """
    data = package.metadata
    name = canonicalize_name(data["Name"])
    classified = [c.split(" :: ")[-1] for c in data.get_all("Classifier", []) if c.startswith("License :: ")]
    first = (data.get("License") or "").strip().split("\n")[0]
    licence = READ.get(name) or data.get("License-Expression") or ", ".join(classified) or first
    if licence in ("", "UNKNOWN"):
        sys.exit(f"{name}: no licence in its metadata; read its licence file and add it to READ in {__file__}")
    return re.sub(r"\s+", " ", licence).replace("|", "/")


def mark_of(licence: str) -> str:
    """What a distributor must know about a licence; empty for permissive ones."""
    return ", ".join(mark for mark, pattern in MARKS.items() if re.search(pattern, licence, re.IGNORECASE))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
