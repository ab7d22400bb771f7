"""Build the documentation site: ``python -m docs.site.build [OUT]``. Warnings and broken links are errors."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from docs.site.checks import broken_links, external_links, foreign_files
from docs.site.staging import ROOT, stage
from sphinx.cmd.build import build_main

CONFIGURATION = Path(__file__).parent
START = "docs/index.html"


def build(out: Path) -> int:
    """Build the site into a folder and check it; return the exit code.

    Args:
        out: Folder for the site, which is made where it is missing.
    """
    with TemporaryDirectory(prefix="segdex-docs-") as folder:
        staged = Path(folder, "pages")
        stage(staged)
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--builder", "html"]
        done = build_main(
            [
                *options,
                "--conf-dir",
                str(CONFIGURATION),
                "-d",
                str(Path(folder, "doctrees")),
                str(staged),
                str(out),
            ]
        )
    if done:
        return done
    (out / "index.html").write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={START}"><a href="{START}">segdex</a>\n'
    )
    found = [f"broken link: {each}" for each in broken_links(out)]
    found += [f"loaded from another host: {each}" for each in foreign_files(out)]
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


def main(arguments: Sequence[str]) -> int:
    """Build into the folder that is named, or into ``build/site``; say where the site is."""
    out = Path(arguments[0]) if arguments else ROOT / "build" / "site"
    done = build(out)
    if not done:
        sys.stdout.write(f"{out / START}: {len(external_links(out))} links to other hosts, not followed\n")
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
