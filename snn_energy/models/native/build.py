"""Compile `kernels.c` once per machine and load it.

Whatever stands in the way (no compiler, no folder to write to, `SNN_ENERGY_KERNELS=off`), there is no library
and PyTorch's operations do the work: the same spikes, the same gradients to rounding, more time.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

SOURCE = resources.files("snn_energy") / "models" / "native" / "kernels.c"
SAFE = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
"""None of them lets a compiler change what a float operation gives."""
NATIVE = ("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ()
"""What is tried in front of `SAFE`, in this order: not every compiler knows the machine that it runs on."""
LIMIT_S = 60


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None if they cannot be had here.  Compiles at most once per process."""
    if os.environ.get("SNN_ENERGY_KERNELS", "on").lower() in ("off", "0", "no", "false"):
        return None
    compiler = find_compiler()
    if compiler is None or sys.platform == "win32":
        return None
    try:
        return _load(compiler)
    except (OSError, subprocess.SubprocessError):
        return None


def find_compiler() -> list[str] | None:
    """The C compiler as a command line: `CC`, or the first of cc, gcc, clang that is installed."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for name in names:
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            return words
    return None


def _load(compiler: list[str]) -> ctypes.CDLL:
    """From the cache, or compiled into it; without one of our own, from a folder that is gone at once."""
    code = SOURCE.read_bytes()
    name = f"kernels-{_key(code, compiler)}.so"
    folder = _cache()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="snn-energy-") as private:
            return ctypes.CDLL(str(_compile(compiler, code, Path(private) / name)))
    path = folder / name
    return ctypes.CDLL(str(path if path.exists() else _compile(compiler, code, path)))


def _key(code: bytes, compiler: list[str]) -> str:
    """Of the source, the compiler and the processor: a home folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    told = "\n".join([*compiler, platform.machine(), sys.platform, features]).encode()
    return hashlib.sha256(code + told).hexdigest()[:16]


def _cache() -> Path | None:
    """A folder for compiled code that nobody else can write to; None if there is none."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "snn-energy"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        private = found.st_uid == os.getuid() and not found.st_mode & 0o022
        return folder if private and os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _compile(compiler: list[str], code: bytes, path: Path) -> Path:
    """Compile into `path`, which appears whole: other processes may be doing the same."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as name:
        source, built = Path(name) / "kernels.c", Path(name) / "kernels.so"
        source.write_bytes(code)
        for native in NATIVE:
            command = [*compiler, *native, *SAFE, "-o", str(built), str(source), "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
            if done.returncode == 0:
                built.replace(path)
                return path
    raise OSError(f"{compiler[0]}: {done.stderr.decode(errors='replace')[:200]}")
