"""Metadata and dependencies of kpdetect; pyproject.toml holds tool settings alone."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "kpdetect/__init__.py").read_text(encoding="utf-8"))[1]

ONNX = ["onnxruntime>=1.20"]  # runs .onnx files
TRAIN = [
    "tensorflow>=2.20",  # tf.data, SavedModel and the TFLite converter; Keras' backend
    "keras>=3.14",  # models, losses, fit; older ones read files outside of a bundle (HDF5 links, paths in archives)
    "tf2onnx>=1.17",  # Keras to ONNX
    "onnx>=1.18",  # writes the model's description into the ONNX file
    "ai-edge-quantizer>=0.10",  # TFLite files of 8-bit integers; it brings the one ai-edge-litert that it fits
    *ONNX,  # every exported file is checked in its own runtime
    "matplotlib>=3.9",  # learning curves, sheets of predictions
    "tensorboard>=2.20",  # --tensorboard
    "pandas>=2.2",  # Annotations.from_dataframe and to_dataframe
    "pyyaml>=6",  # reads YOLO's data.yaml
]
GPU = [
    "tensorflow[and-cuda]>=2.20; platform_system == 'Linux'",  # CUDA and cuDNN for GPUs of NVIDIA
    *TRAIN,
]
JAX = [
    "jax>=0.10",  # Keras' other backend, for several machines; on processors: GPUs and TPUs need a jaxlib of their own
]
RAY = [
    "ray[train]>=2.60",  # train --workers: Ray Train places workers and restarts them from a checkpoint
    *JAX,
]
LABEL = [
    "ray>=2.60",  # workers on one machine or a cluster, new ones for those that die; older ones may ask for no token
    "pyarrow>=18",  # Parquet
]
HEIF = ["pillow-heif>=1.0"]  # HEIC photographs of phones
VIDEO = ["av>=14"]  # PyAV: H.264, sound and frame times in written videos
HUB = ["huggingface_hub>=1.0"]  # hf://user/name wherever a model is, and publish
TUNE = ["optuna>=4"]  # tune --random and --search tpe
NOTEBOOKS = [
    *TRAIN,
    "jupytext>=1.16",  # a notebook is a script; this makes the one of the other
    "nbclient>=0.10",  # runs notebooks from top to bottom, in notebooks/generate.py and in a test
    "ipykernel>=6.29",  # the Python that a notebook's cells run in
    "scikit-image>=0.24",  # ships a photograph in the public domain
]
DOCS = [
    "mkdocs>=1.6,<2",  # builds the pages of docs/
    "mkdocs-material>=9.5",  # their theme
    "mkdocstrings[python]>=0.26",  # the API reference, from docstrings
]
TEST = [
    *NOTEBOOKS,
    *DOCS,
    *LABEL,
    *RAY,
    *HEIF,
    *VIDEO,
    *HUB,
    *TUNE,
    "pycocotools>=2.0.8",  # reads what `kpdetect convert` writes
    "hypothesis>=6",  # properties of the geometry
    "mypy>=1.15",
    "opencv-python<5",  # the tests of Haar cascades; those of OpenCV 5 are a session of noxfile.py
    "pillow>=10",  # examples/minimal_litert.py
    "playwright>=1.50",  # the page in a real Chromium; the browser is the system's
    "pytest>=8",
    "pytest-xdist>=3.6",  # the tests run in two processes
    "ruff>=0.12",
    "supervision>=0.31",  # Face.to_supervision
    "types-tqdm",
]
SHIPPED = {f"kpdetect._{folder}": f"exported_models/{folder}" for folder in ("compact", "finder", "imagenet")}
SHIPPED["kpdetect._web"] = "web/built"  # the page for browsers, built by web/build.mjs

setup(
    name="kpdetect",
    version=VERSION,
    description="Train, measure and ship facial keypoint models with Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # The models that ship are packages of data: the folders they are kept in, under other names.
    packages=[*find_packages(include=["kpdetect", "kpdetect.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "kpdetect": ["py.typed"],
        "kpdetect.data": ["label_alignment.json"],
        "kpdetect.data.synthetic": ["face_shape.json"],
        "kpdetect.filters": ["pictures/*.png", "pictures/*.json"],
        "kpdetect._web": ["*.*", "litert/*", "samples/*"],
        "kpdetect._compact": ["compact_int8.tflite", "model.weights_fp16.npz", "spec.json"],
        "kpdetect._finder": ["finder.tflite", "finder_256.tflite"],
        "kpdetect._imagenet": ["efficientnet_lite0.npz"],
    },
    # Inference alone.
    install_requires=[
        "numpy>=1.26",
        "opencv-python>=4.10",  # decodes and crops; `--detector haar` needs 4.x, since 5.0 has no CascadeClassifier
        "ai-edge-litert>=2.0",  # runs .tflite files
        "tqdm>=4.66",  # progress bars
    ],
    extras_require={
        "onnx": ONNX,
        "train": TRAIN,
        "gpu": GPU,
        "jax": [*TRAIN, *JAX],
        "ray": [*TRAIN, *RAY],
        "label": LABEL,
        "heif": HEIF,
        "video": VIDEO,
        "hub": HUB,
        "tune": [*TRAIN, *TUNE],
        "notebooks": NOTEBOOKS,
        "docs": DOCS,
        "test": TEST,
    },
    entry_points={"console_scripts": ["kpdetect = kpdetect.__main__:command"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
