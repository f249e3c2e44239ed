"""The stand-in, compiled for the PyTorch that will run: one library that is preloaded, and one for each NVIDIA soname.

Torch's wheel names NVIDIA's libraries and their symbols. The preloaded library defines all of them. The libraries by
soname are empty: the loader only wants to find them. Nothing of NVIDIA's has to be installed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from footprint.errors import FootprintError

SOURCES = Path(__file__).with_name("standin")
PRELOADED = "libfootprint_standin.so"

TRIED = ((2, 4), (2, 14))
"""The first and the last minor version of PyTorch that this was tried with."""

NVIDIAS = re.compile(
    r"(__)?(cuda|cublas|cu[A-Z]|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvshmem|cupti|cuFile|nvml|nvtx|nvJitLink)"
)
"""Names that belong to NVIDIA's libraries."""

SONAME = re.compile(r"lib(cu|nccl|nv)\w*\.so")

LOOKED_UP = re.compile(rb"\0(cu[A-Z]\w{2,60}|nvml[A-Z]\w{2,60})(?=\0)")
"""Functions of the driver that a library looks up by name stand as text in it, not among its symbols."""

QUIET = re.compile(
    r"__cuda(Register|Unregister)\w+"
    r"|cuda(GetLastError|PeekAtLastError|DeviceSynchronize|DeviceReset|DeviceSetLimit|DeviceEnablePeerAccess)"
    r"|cuda(SetDeviceFlags|Profiler(Start|Stop)|Host(Register|Unregister)|Mem(PrefetchAsync|Advise)\w*)"
    r"|cuda(Stream(Synchronize|Query|WaitEvent|Destroy)|Event(Record|RecordWithFlags|Query|Synchronize))\w*"
    r"|cuda(FuncSet\w+|ThreadExchangeStreamCaptureMode|CtxResetPersistingL2Cache)"
    r"|(__)?cudaLaunch(Kernel|KernelExC|CooperativeKernel)\w*"
    r"|cublas(?!\w*(Create|Get))\w+|cublasLt(?!\w*(Create|Get))\w+|cublasGetStream\w*"
    r"|cu(MemMap|MemSetAccess|MemsetD32Async|Launch(Kernel|KernelEx|CooperativeKernel)|ModuleUnload|FuncSet\w+)"
    r"|cuTensorMap\w+|cuLogs(Register|Unregister)Callback|nvtx\w+"
    r"|cu(CtxSetCurrent|CtxPushCurrent_v2|CtxPopCurrent_v2|MemcpyHtoDAsync_v2)"
)
"""What succeeds by doing nothing: it would only compute, wait, or set what has no meaning here."""

REFUSED = {
    "cudnn": "cuDNN's convolutions and attention take workspaces that only cuDNN knows",
    "cusolver": "cuSOLVER takes workspaces that only cuSOLVER knows",
    "cusparse": "cuSPARSE takes workspaces that only cuSPARSE knows",
    "cufft": "cuFFT takes workspaces that only cuFFT knows",
    "cudaGraph": "CUDA graphs replay kernels, which do nothing here",
    "cudaStreamBeginCapture": "CUDA graphs replay kernels, which do nothing here",
    "nccl": "process groups are rehearsed with --gpus, by PyTorch's own that communicate nothing; DataParallel is not",
    "nvshmem": "memory that GPUs share is not rehearsed",
    "cudaIpc": "memory shared between processes is not rehearsed yet",
    "cupti": "kernels that do nothing have no profile",
}
"""Why a function is refused, by how its name begins."""
UNKNOWN = "the stand-in does not implement it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """PyTorch and bitsandbytes as an interpreter would import them."""

    torch: Path
    version: str
    cuda: str
    """As `13.0`."""
    libraries: tuple[Path, ...]
    """Shared libraries whose symbols must be there."""


def stand_in(python: str) -> Path:
    """The folder of the stand-in for an interpreter's PyTorch, built if it is not in the user's cache.

    Raises FootprintError where that PyTorch is no CUDA build, and where no C compiler can be run.
    """
    found = installed(python)
    folder = _cache() / _identity(found)
    if not (folder / PRELOADED).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _build(found, Path(scratch) / "built")
            try:
                os.rename(Path(scratch) / "built", folder)
            except OSError:  # another process was faster; what it built is the same
                shutil.rmtree(Path(scratch) / "built")
    return folder


_ASK = """
import importlib.util, json
found = {name: importlib.util.find_spec(name) for name in ("torch", "bitsandbytes")}
print(json.dumps({name: list(spec.submodule_search_locations)[0] if spec else None for name, spec in found.items()}))
"""


def installed(python: str) -> Installed:
    """What an interpreter has; FootprintError unless it has a CUDA build of PyTorch."""
    try:
        asked = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
        places = json.loads(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        raise FootprintError(f"{python}: is not an interpreter that can be asked for its packages ({error})") from None
    if places["torch"] is None:
        raise FootprintError(f"{python}: has no PyTorch; install a CUDA build, for example `pip install torch`")
    torch = Path(places["torch"])
    told = (torch / "version.py").read_text(encoding="utf-8")
    version, cuda = (_assigned(name, told) for name in ("__version__", "cuda"))
    if cuda is None:
        raise FootprintError(
            f"{python}: PyTorch {version} is not a CUDA build; a rehearsal runs the CUDA build (NVIDIA's own packages "
            "and a GPU are not needed: `pip install --no-deps torch` from an index that has it)"
        )
    libraries = sorted((torch / "lib").glob("*.so"))
    if places["bitsandbytes"]:
        libraries += sorted(Path(places["bitsandbytes"]).glob(f"libbitsandbytes_cuda{cuda.split('.')[0]}*.so"))
    return Installed(torch=torch, version=version or "unknown", cuda=cuda, libraries=tuple(libraries))


def is_cuda_build(python: str) -> bool:
    """Whether an interpreter has a CUDA build of PyTorch."""
    try:
        installed(python)
    except FootprintError:
        return False
    return True


def _assigned(name: str, source: str) -> str | None:
    match = re.search(rf"^{name}(?:\s*:[^=]+)?\s*=\s*'([^']+)'", source, flags=re.MULTILINE)
    return match[1] if match else None


def untried(found: Installed) -> str | None:
    """A sentence where this version of PyTorch lies outside those that were tried."""
    minor = tuple(int(part) for part in re.findall(r"\d+", found.version)[:2])
    if TRIED[0] <= minor <= TRIED[1]:
        return None
    first, last = (".".join(map(str, version)) for version in TRIED)
    return f"PyTorch {found.version} was not tried with this stand-in, {first} to {last} were."


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "footprint" / "standin"


def _identity(found: Installed) -> str:
    """Everything the built files depend on, hashed."""
    digest = hashlib.sha256()
    for source in (Path(__file__), *sorted(SOURCES.iterdir())):
        digest.update(source.read_bytes())
    for library in found.libraries:
        status = library.stat()
        digest.update(f"{library} {status.st_size} {status.st_mtime_ns}\n".encode())
    digest.update(f"{found.version} {found.cuda} {_compiler()}".encode())
    return digest.hexdigest()[:24]


def _compiler() -> str:
    found = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise FootprintError("cc: no C compiler was found, which builds the stand-in once; install gcc or set CC")
    return found


def _build(found: Installed, folder: Path) -> None:
    folder.mkdir()
    major, minor = (int(part) for part in found.cuda.split(".")[:2])
    flags = ["-O2", "-fPIC", "-fvisibility=hidden", f"-DCUDA_VERSION={1000 * major + 10 * minor}"]
    own = folder / "own.o"
    _compile([*flags, "-r", "-nostdlib", *map(str, sorted(SOURCES.glob("*.c"))), "-o", str(own)])
    wanted = {name for library in found.libraries for name in _asked_for(library)}
    missing = sorted(
        name for name in wanted - set(_symbols(own, "--defined-only", dynamic=False)) if NVIDIAS.match(name)
    )
    (folder / "others.c").write_text(_others(missing))
    _compile(
        [*flags, f"-I{SOURCES}", "-shared", str(own), str(folder / "others.c"), "-o", str(folder / PRELOADED), "-ldl"]
    )
    for soname in sorted({name for library in found.libraries for name in _needed(library)} | {"libcuda.so.1"}):
        if not (found.torch / "lib" / soname).exists():
            _empty(folder, soname, flags)
    _linked(folder, "libcuda.so.1", flags)
    _linked(folder, "libnvidia-ml.so.1", flags)
    for scratch in ("own.o", "others.c", "empty.c", "version.map"):
        (folder / scratch).unlink(missing_ok=True)


def _others(missing: Iterable[str]) -> str:
    """C for every symbol that is named and not implemented: most do nothing on purpose, the rest refuse."""
    lines = ['#include "standin.h"']
    for name in missing:
        if QUIET.fullmatch(name):
            lines.append(f"EXPORT long {name}(void) {{ return 0; }}")
        else:
            reason = next((why for prefix, why in REFUSED.items() if name.startswith(prefix)), UNKNOWN)
            lines.append(f'EXPORT long {name}(void) {{ refuse("{name}", "{reason}"); }}')
    return "\n".join(lines) + "\n"


def _asked_for(library: Path) -> set[str]:
    """Every name of a function that a library may call."""
    return {
        *_symbols(library, "--undefined-only"),
        *(name.decode() for name in LOOKED_UP.findall(library.read_bytes())),
    }


def _symbols(library: Path, which: str, *, dynamic: bool = True) -> list[str]:
    listed = _run(["nm", *(["-D"] if dynamic else []), which, str(library)])
    return [line.split()[-1].split("@")[0] for line in listed.splitlines() if line.strip()]


def _needed(library: Path) -> list[str]:
    """Sonames of NVIDIA's that a library names."""
    listed = re.findall(r"\(NEEDED\).*\[(.+)\]", _run(["readelf", "-d", str(library)]))
    return [soname for soname in listed if SONAME.match(soname)]


def _empty(folder: Path, soname: str, flags: list[str]) -> None:
    """A library that the loader takes for NVIDIA's: its name, and the version that symbols are bound to."""
    version = "NVSHMEM" if soname.startswith("libnvshmem") else soname
    (folder / "version.map").write_text(f"{version} {{ *; }};\n")
    (folder / "empty.c").write_text("int footprint_empty;\n")
    script = f"-Wl,-soname,{soname},--version-script={folder / 'version.map'}"
    _compile([*flags, "-shared", script, str(folder / "empty.c"), "-o", str(folder / soname)])


def _linked(folder: Path, soname: str, flags: list[str]) -> None:
    """A library for programs that open it by name: it hands on to the stand-in, which lies beside it."""
    (folder / "empty.c").write_text("int footprint_empty;\n")
    beside = ["-Wl,--no-as-needed", f"-L{folder}", f"-l:{PRELOADED}", "-Wl,-rpath,$ORIGIN", f"-Wl,-soname,{soname}"]
    _compile([*flags, "-shared", str(folder / "empty.c"), *beside, "-o", str(folder / soname)])


def _compile(arguments: list[str]) -> None:
    _run([_compiler(), *arguments])


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except OSError as error:
        raise FootprintError(f"{command[0]}: cannot be run ({error.strerror}); install gcc and binutils") from None
    except subprocess.CalledProcessError as error:
        raise FootprintError(f"{command[0]}: failed to build the stand-in ({error.stderr.strip()[-300:]})") from None
