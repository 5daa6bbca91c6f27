"""Where a market's files live. Everything hangs below one root: the repository, or a test's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def repository() -> Path:
    """The repository: the nearest folder above the working directory that is one, else the checkout of this package."""
    here, checkout = Path.cwd(), Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, checkout):
        if (folder / "dvc.yaml").exists() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(f"{here} is not inside the repository: start from a folder of the clone")


@dataclass(frozen=True)
class MarketPaths:
    """The folders of one market below `root` ("" means the repository)."""

    name: str
    root: str | Path = ""

    @property
    def base(self) -> Path:
        return Path(self.root) if self.root else repository()

    @property
    def raw(self) -> Path:
        """Prices as they were brought, never in git."""
        return self.base / "data" / "raw" / self.name

    @property
    def interim(self) -> Path:
        """Checked prices, features and scaling; DVC keeps them, git does not."""
        return self.base / "data" / "interim" / self.name

    @property
    def reports(self) -> Path:
        """What is committed: tables, figures, executed notebooks, runs."""
        return self.base / "reports" / self.name

    @property
    def checkpoints(self) -> Path:
        """Weights of the first seed of each preset, float16, committed."""
        return self.reports / "checkpoints"

    def tables(self, stage: str) -> Path:
        return self._made(self.reports / "tables" / stage)

    def figures(self, stage: str) -> Path:
        return self._made(self.reports / "figures" / stage)

    def runs(self, stage: str) -> Path:
        return self._made(self.reports / "runs" / stage)

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
