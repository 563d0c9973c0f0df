"""Takes the symbols out of wheels and keeps them in files of their own: small to install, and a crash can still be read.

For each wheel the shared library loses everything that only a debugger reads. That goes to `NAME.debug` beside the wheel,
under the name that the library itself remembers, so that gdb finds it in the same folder; `addr2line -e NAME.debug` works too.
Linux only: on macOS and Windows the compiler writes such files itself.

    python tools/split_symbols.py target/dist/*.whl
"""

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OLD = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, so that the same build gives the same bytes."""


def split(wheel: Path) -> None:
    """Rewrites one wheel and says what became of it."""
    before = wheel.stat().st_size
    with tempfile.TemporaryDirectory() as name:
        with zipfile.ZipFile(wheel) as archive:
            entries = {info.filename: archive.read(info) for info in archive.infolist()}
            modes = {info.filename: info.external_attr for info in archive.infolist()}
        for path in [path for path in entries if path.endswith(".so")]:
            symbols = wheel.with_name(f"{wheel.stem}.debug")
            entries[path] = strip(entries[path], symbols, Path(name))
            print(f"{symbols}: {symbols.stat().st_size / 2**20:.1f} MiB, apart")
        record = next(path for path in entries if path.endswith(".dist-info/RECORD"))
        rows = [row(path, data) for path, data in entries.items() if path != record]
        entries[record] = "".join([*rows, f"{record},,\n"]).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, data in entries.items():
            info = zipfile.ZipInfo(path, OLD)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, modes[path]
            archive.writestr(info, data, compresslevel=9)
    print(f"{wheel}: {wheel.stat().st_size / 2**20:.2f} MiB, was {before / 2**20:.1f}")


def strip(library: bytes, symbols: Path, folder: Path) -> bytes:
    """The library without its symbols, which are written to a file that it names."""
    whole, bare = folder / "whole.so", folder / "bare.so"
    whole.write_bytes(library)
    objcopy("--only-keep-debug", "--compress-debug-sections", whole, symbols)
    objcopy("--strip-all", f"--add-gnu-debuglink={symbols}", whole, bare)
    return bare.read_bytes()


def objcopy(*arguments: str | Path) -> None:
    """Runs binutils' tool of that name; `set -e` for Python."""
    subprocess.run(["objcopy", *arguments], check=True)


def row(path: str, data: bytes) -> str:
    """A line of RECORD, as the specification of wheels says."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}\n"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        split(Path(argument))
