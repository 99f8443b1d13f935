"""Metadata of the package; the settings of the tools are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "keras_vit/__init__.py").read_text("utf-8"), re.M).group(1)

EXTRAS = {
    "keras-cv": ["keras-cv>=0.9.0"],
    "plots": ["matplotlib>=3.10"],
    "mobile": ["ai-edge-quantizer>=0.10.0"],
    "onnx": ["tf2onnx>=1.17.0", "onnx>=1.20.0", "onnxruntime>=1.24.0"],
    "datasets": ["datasets>=5.2.0"],
    "hub": ["huggingface_hub>=1.0"],
    "jax": ["jax>=0.10.0"],
}

setup(
    name="keras-vit",
    version=VERSION,
    description="Vision Transformers for Keras: from a published checkpoint, or one's own images, to a phone",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["keras_vit", "keras_vit.*"]),
    py_modules=["keras_vit_command"],
    package_data={
        "keras_vit": [
            "*.txt",
            "py.typed",
            "weights/*.csv",
            "export/web/static/*",
            "report/*.html",
            "report/*.md",
            "report/*.css",
            "report/*.js",
        ],
    },
    install_requires=[
        "keras>=3.15.1",
        "tensorflow>=2.21.0",
        "tensorflow-datasets>=4.9.10",
        "importlib_resources>=6.5.2",  # tensorflow-datasets needs it and does not say so
        "ai-edge-litert>=2.1.6",
        "flatbuffers>=25.9.23",
        "numpy>=2.2.0",
        "scikit-learn>=1.7.0",
        "scipy>=1.15.0",
        "pillow>=12.0.0",
        "safetensors>=0.7.0",
        "click>=8.2.0",
        "filelock>=3.20.3",
        "h5py>=3.12.0",
        "ml_dtypes>=0.5.1",
    ],
    extras_require={
        **EXTRAS,
        "all": sorted({requirement for extra in EXTRAS.values() for requirement in extra}),
        "dev": [
            *("pytest>=9.0.0", "pytest-xdist>=3.8.0", "ruff>=0.14.0", "mypy>=2.0", "pyyaml>=6.0.2", "mediapipe>=1.2.2"),
            *(requirement for extra in ("jax", "datasets", "mobile", "onnx", "plots") for requirement in EXTRAS[extra]),
        ],
    },
    entry_points={"console_scripts": ["keras-vit=keras_vit_command:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        # Tested on 3.11; on 3.12 and 3.13 all requirements resolve, extras too.
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
