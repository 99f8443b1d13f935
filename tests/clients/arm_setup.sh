#!/bin/sh
# Makes a folder that runs LiteRT for ARM on a PC, for `pytest -m arm`: 160 MB, 20 s.
#
#     apt-get install qemu-user-static
#     tests/clients/arm_setup.sh FOLDER
#     KERAS_VIT_ARM=FOLDER pytest -m arm tests/clients/test_arm.py
#
# Needs Debian 12, whose sources are those of /etc/apt/sources.list.d/debian.sources, and pip. Nothing is installed:
# packages are fetched and unpacked below FOLDER, and the system's dpkg is not told of arm64.
# LiteRT 2.2.0 and 2.3.0 crash under emulation.
set -eu
test $# = 1 || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1/lists/partial" "$1/archives/partial" "$1/debs" "$1/wheels" "$1/root" "$1/site"
cd "$1"
folder=$PWD

touch status
apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Dir::State="$folder" -o Dir::State::status="$folder/status" -o Dir::Cache="$folder" \
        -o Dir::Etc::sourceparts="$folder/sources" "$@"
}
# Of the system's sources those of Debian: others need not have arm64.
mkdir -p sources
cp /etc/apt/sources.list.d/debian.sources sources/
apt update
(cd debs && apt download python3.11-minimal libpython3.11 libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 \
    libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libuuid1 libssl3 libsqlite3-0)
for package in debs/*.deb; do dpkg-deb -x "$package" root; done

python3 -m pip download -q --dest wheels --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    --python-version 3.11 --only-binary=:all: --no-deps ai-edge-litert==2.1.6 numpy==2.4.6 flatbuffers \
    typing_extensions tqdm protobuf ml_dtypes backports.strenum
for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" site; done
rm -rf lists archives debs wheels sources status pkgcache.bin srcpkgcache.bin
