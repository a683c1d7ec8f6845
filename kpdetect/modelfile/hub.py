"""Models on the Hugging Face hub: ``hf://user/name[@revision]``, downloaded and published.

Of a repository, only ``spec.json`` and the model files that it lists are downloaded, at most as large as it states, and
each is checked against its sha256. Files of other kinds, such as pickles and Python code, are never downloaded.
"""

import dataclasses
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect import __version__
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.modelfile.bundle import checked_file, model_kind, read_spec
from kpdetect.modelfile.model_card import model_card
from kpdetect.modelfile.spec import MAX_SPEC_BYTES, SPEC_FILE, Spec

CARD_FILE = "README.md"
MODEL_SUFFIXES = (".tflite", ".onnx", ".h5", ".npz", ".keras")
"""Files that are downloaded and published, if ``spec.json`` lists them."""

_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.][\w./-]*))?/?")


@dataclass(frozen=True)
class HubAddress:
    """A model on the hub.

    Attributes:
        repo: ``user/name``.
        revision: A branch, a tag or a commit; None for the newest.

    Example:
        >>> HubAddress.parse("hf://ann/faces@v1")
        HubAddress(repo='ann/faces', revision='v1')
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """Reads an address.

        Raises:
            KpdetectError: It has another form.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise KpdetectError(f"{text}: expected hf://user/name or hf://user/name@revision")
        return cls(match["repo"], match["revision"])

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_address(text: str) -> bool:
    """Whether a model is given as an address of the hub.

    >>> is_hub_address("hf://ann/faces"), is_hub_address("runs/mine")
    (True, False)
    """
    return text.startswith("hf:/")


def fetch(address: str) -> Path:
    """Downloads a model from the hub, once per process, and returns its folder in the hub's cache.

    Without a network the files of an earlier download are used. ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and
    ``HF_HUB_OFFLINE`` have their usual meanings.

    Args:
        address: ``hf://user/name`` or ``hf://user/name@revision``.

    Returns:
        A bundle folder.

    Raises:
        KpdetectError: There is no such model, it is not one of kpdetect, a file is damaged, or the hub cannot be
            reached.
        MissingExtra: huggingface_hub is not installed.

    Example:
        ``fetch("hf://ann/faces@v1")``
    """
    return _fetch(HubAddress.parse(address))


@functools.lru_cache(maxsize=64)
def _fetch(model: HubAddress) -> Path:
    hub = _import_hub(f"{model}")
    try:
        info = _api(hub).model_info(model.repo, revision=model.revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        offline = False
    except Exception as error:  # huggingface_hub's exceptions have no other common base class
        if _is_answer(hub, error):
            raise _error(model, error) from error
        sizes, offline, reason = {}, True, error
    try:
        if not offline:
            _check_size(model, SPEC_FILE, sizes, MAX_SPEC_BYTES)
        # By its branch, so that it is found without a network too; the rest by the commit of this file.
        spec_file = _download(hub, model.repo, SPEC_FILE, model.revision, offline)
        spec = Spec.from_json(spec_file.read_bytes(), f"{model}: {SPEC_FILE}")
        for name in model_files(spec):
            if not offline:
                _check_size(model, name, sizes, spec.files[name]["bytes"])
            _download(hub, model.repo, name, spec_file.parent.name, offline)
    except KpdetectError:
        raise
    except Exception as error:  # as above
        raise _error(model, reason if offline else error) from error
    for name in model_files(spec):
        checked_file(spec_file.parent, spec, name)
    return spec_file.parent


def publish(folder: Path, to: str, private: bool = False, message: str = "", name: str = "") -> tuple[str, list[str]]:
    """Uploads a bundle to the hub: ``spec.json``, the model files that it lists, and a model card.

    Args:
        folder: A run or bundle folder. Its ``README.md`` is the model card; without one it is written from the spec.
        to: ``hf://user/name``, or ``hf://user/name@branch``; the repository is created if it does not exist.
        private: Create a private repository.
        message: Message of the commit.
        name: Name of the model in a written card; by default that of the repository.

    Returns:
        The address of the commit, and the names of the files.

    Raises:
        KpdetectError: The folder is no bundle, a file is damaged, or the hub refuses.
        MissingExtra: huggingface_hub is not installed.

    Example:
        ``publish(Path("exported"), "hf://ann/faces")``
    """
    model = HubAddress.parse(to)
    if model_kind(folder) != "bundle":
        raise KpdetectError(f"{folder}: expected a run folder or a bundle, a folder with {SPEC_FILE}")
    spec = read_spec(folder)
    names = [name for name in model_files(spec) if (folder / name).is_file()]
    if not names:
        raise KpdetectError(f"{folder}: expected model files that {SPEC_FILE} lists, found none")
    files: dict[str, Any] = {name: str(checked_file(folder, spec, name)) for name in names}
    spec = dataclasses.replace(spec, files={name: spec.files[name] for name in names})  # no others will be there
    files[SPEC_FILE] = spec.to_json().encode()
    card = folder / CARD_FILE
    address = f"hf://{model.repo}"
    files[CARD_FILE] = str(card) if card.is_file() else model_card(spec, name or model.repo, address).encode()
    hub = _import_hub(f"publishing {model}")
    api = _api(hub)
    try:
        api.create_repo(model.repo, private=private or None, exist_ok=True)
        if model.revision is not None:
            api.create_branch(model.repo, branch=model.revision, exist_ok=True)
        done = api.create_commit(
            model.repo,
            [hub.CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=message or f"Model files, written by kpdetect {__version__}",
            revision=model.revision,
        )
    except Exception as error:  # as above
        raise _error(model, error, "publishing it failed") from error
    return str(done.commit_url), list(files)


def model_files(spec: Spec) -> list[str]:
    """Names of the files of a spec that are downloaded and published.

    Example:
        ``model_files(read_spec("compact"))``
    """
    return [name for name in spec.files if name.lower().endswith(MODEL_SUFFIXES)]


def _import_hub(task: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise MissingExtra("huggingface_hub", "hub", task) from error
    return huggingface_hub


def _api(hub: Any) -> Any:
    return hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="kpdetect", library_version=__version__)


def _download(hub: Any, repo: str, name: str, revision: str | None, offline: bool) -> Path:
    return Path(
        hub.hf_hub_download(
            repo,
            name,
            revision=revision,
            endpoint=os.environ.get("HF_ENDPOINT"),
            local_files_only=offline,
            library_name="kpdetect",
            library_version=__version__,
        )
    )


def _check_size(model: HubAddress, name: str, sizes: dict[str, int | None], limit: int) -> None:
    if name not in sizes:
        what = "it is not a model of kpdetect" if name == SPEC_FILE else f"{SPEC_FILE} lists it"
        raise KpdetectError(f"{model}: the repository has no file {name}: {what}")
    size = sizes[name]
    if size is not None and size > limit:
        raise KpdetectError(f"{model}: {name}: expected at most {limit} bytes, received {size}")


def _is_answer(hub: Any, error: Exception) -> bool:
    """Whether the hub answered, and with something else than a fault of its own."""
    response = getattr(error, "response", None)
    return isinstance(error, hub.errors.HfHubHTTPError) and response is not None and response.status_code < 500


def _error(
    model: HubAddress, error: Exception, otherwise: str = "there is no complete earlier download"
) -> KpdetectError:
    """Returns an error of one line for an exception of huggingface_hub."""
    from huggingface_hub import errors

    if isinstance(error, errors.RevisionNotFoundError):
        return KpdetectError(f"{model}: the repository exists, but has no revision '{model.revision}'")
    if isinstance(error, errors.GatedRepoError):
        return KpdetectError(f"{model}: ask for access on the hub's page of this model, and set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return KpdetectError(f"{model}: the hub has no such model, or it is private: set HF_TOKEN, or: hf auth login")
    if isinstance(error, errors.HfHubHTTPError):
        return KpdetectError(f"{model}: the hub refused: {' '.join(str(error).split())[:300]}")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return KpdetectError(f"{model}: the hub cannot be reached, and {otherwise}: {reason}")
