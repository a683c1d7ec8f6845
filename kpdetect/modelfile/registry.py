"""The models that are packaged with kpdetect: their names, and the folders that hold their files."""

import os
from dataclasses import dataclass
from pathlib import Path

from kpdetect.core.assets import packaged_file
from kpdetect.core.errors import KpdetectError, unknown_name

PathLike = str | os.PathLike[str]

SPEC_FILE = "spec.json"


@dataclass(frozen=True)
class ShippedModel:
    """A packaged model.

    Attributes:
        name: Its name with a version. A later model gets a new name; this one always means the same weights.
        alias: A short name, which means the newest model of its kind.
        folder: Its folder in ``exported_models``.
        description: What it is, in one line.
    """

    name: str
    alias: str
    folder: str
    description: str

    @property
    def path(self) -> Path:
        """The folder of its files, in an installed package or in a checkout.

        Raises:
            KpdetectError: The files are in neither place.
        """
        instead = "train a model with: python -m kpdetect.train"
        return packaged_file(self.folder, SPEC_FILE, instead).parent


SHIPPED_MODELS = (
    ShippedModel(
        name="compact-160-v2",
        alias="compact",
        folder="compact",
        description="68 points (iBUG scheme), uncertainty, visibility, face score; grey crops of 160x160 pixels",
    ),
)
"""Every packaged model; the first one is the default of `kpdetect.Predictor`."""


def resolve(model: PathLike) -> Path:
    """Returns the path of a model that is given as a path, a packaged model's name or an address of the hub.

    A path that exists is returned as it is, also if a packaged model has the same name. A model of the hub is
    downloaded, see `kpdetect.modelfile.hub.fetch`.

    Args:
        model: A path, a name or alias of `SHIPPED_MODELS`, or ``hf://user/name[@revision]``.

    Raises:
        KpdetectError: There is no such path and no packaged model of that name, or it cannot be downloaded.

    >>> resolve("compact") == resolve("compact-160-v2")
    True
    """
    path = Path(model)
    if os.path.exists(path):  # false, not an error, for a name that the system does not accept
        return path
    text = os.fspath(model)
    if text.startswith("hf:/"):
        from kpdetect.modelfile.hub import fetch  # which needs the readers of this package

        return fetch(text)
    for shipped in SHIPPED_MODELS:
        if text in (shipped.name, shipped.alias):
            return shipped.path
    names = [name for shipped in SHIPPED_MODELS for name in (shipped.name, shipped.alias)]
    raise KpdetectError(f"{text}: no such model file or folder; {unknown_name('packaged model', text, names)}")
