"""The command ``publish``: uploads a model to the Hugging Face hub."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kpdetect.core.options import option, parse_options, run_command
from kpdetect.modelfile.hub import publish
from kpdetect.modelfile.registry import resolve


@dataclass(frozen=True)
class PublishOptions:
    """Uploads a model to the Hugging Face hub: its files, spec.json, and a model card.

    The hub's token is that of the variable HF_TOKEN, or of the command "hf auth login".
    """

    model: str = option(dataclasses.MISSING, "run or bundle folder, or the name of a packaged model", positional=True)
    to: str = option(dataclasses.MISSING, "where to: hf://user/name, or hf://user/name@branch", metavar="ADDRESS")
    private: bool = option(False, "create a private repository")
    message: str = option("", "message of the commit", metavar="TEXT")
    name: str = option("", "name of the model in its card, if the folder has no README.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``publish``.

    Args:
        argv: The words after ``publish``; None takes those of the process.

    Returns:
        The exit status.

    Raises:
        KpdetectError: The model is no bundle, or the hub refuses or cannot be reached.

    Example:
        >>> main(["exported", "--to", "hf://ann/faces"])  # doctest: +SKIP
        0
    """
    example = "python -m kpdetect.publish exported --to hf://ann/faces --private"
    options = parse_options(PublishOptions, argv, "publish", example)
    url, files = publish(resolve(options.model), options.to, options.private, options.message, options.name)
    print(f"{url}: {', '.join(files)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
