"""``python -m normscope.nn.kernels.build``: compile rows.cpp beside it, where a C++ compiler is to be had; optional."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("rows.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp-simd", "-fno-math-errno", "-fPIC", "-shared")


def library() -> Path:
    """Path of the library, made or not.

    Its name holds a checksum of the source, the flags and the processor, so that a stale one, or one made for another
    processor, is never loaded; and it does not end in .so, which Python would take for a module.
    """
    made_of = SOURCE.read_bytes() + " ".join(FLAGS).encode() + _processor().encode()
    return SOURCE.with_name(f"_rows-{hashlib.sha256(made_of).hexdigest()[:12]}.bin")


def _processor() -> str:
    """What ``-march=native`` depends on, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def build(compiler: str) -> Path:
    """Compile the library and remove those of older sources.

    Raises:
        subprocess.CalledProcessError: the compiler failed; its message is on standard error.
    """
    target = library()
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(made)], check=True)
        made.replace(target)
    for old in target.parent.glob("_rows-*.bin"):
        if old != target:
            old.unlink()
    return target


def main() -> int:
    """Build, or say in one line why there is none; never a reason for an installation to fail."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        print("normscope: no C++ compiler found; sites use torch's operations (set CXX for faster ones).")
        return 0
    if not library().exists():
        try:
            build(compiler)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"normscope: the compiler failed ({error}); sites use torch's operations.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
