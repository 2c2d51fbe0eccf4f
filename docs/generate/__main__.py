"""`python -m docs.generate [FOLDER]`: builds the site, and says where it is. Any warning is an error."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

CONFIG = Path(__file__).parents[1] / "mkdocs.yml"


def build_site(folder: Path | None = None) -> Path:
    """The folder that it was built into. `mkdocs.exceptions.Abort` where mkdocs warned of something."""
    config = load_config(str(CONFIG), **({"site_dir": str(folder)} if folder else {}))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    return Path(config.site_dir)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        made = build_site(Path(sys.argv[1]).resolve() if sys.argv[1:] else None)
    except Abort as error:
        sys.exit(f"docs: not built: {error}")
    print(f"open {made / 'index.html'} in a browser; it needs no network and no server")
