"""Packaging of xft. The distribution is called ``xft-tuner``; the import is ``xft``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    lines: list[str] = []
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text and not text.startswith("-r"):
            lines.append(text)
    return lines


def version() -> str:
    text = (ROOT / "xft" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'__version__ = "(.+)"', text)
    assert match is not None
    return match.group(1)


setup(
    name="xft-tuner",
    version=version(),
    description="Fine-tune language models from Python config files.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The configs and the documentation live at the top of the repository, where people read them,
    # and are installed inside the package, where `xft list` and `xft docs` find them.
    packages=[*find_packages(include=["xft", "xft.*"]), "xft.configs", "xft.docs"],
    package_dir={"xft.configs": "configs", "xft.docs": "docs"},
    package_data={
        "xft": ["assets/*", "reporting/templates/*", "templates/library/*.jinja", "py.typed"],
        "xft.configs": ["**/*.py"],
        "xft.docs": ["**/*.md"],
    },
    install_requires=requirements("runtime"),
    extras_require={
        "logging": requirements("logging"),
        "swanlab": requirements("swanlab"),
        "deepspeed": requirements("deepspeed"),
        "serve": requirements("serve"),
        "gguf": requirements("gguf"),
        "eval": requirements("eval"),
        "schedulefree": requirements("schedulefree"),
    },
    entry_points={"console_scripts": ["xft = xft.cli:main"]},
)
