"""One process at a time in a folder.

Knows the locks of POSIX and of Windows, which the system takes back when
a process ends, however it ends. Knows nothing of what is in a folder.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

TAKEN = (errno.EACCES, errno.EAGAIN)  # by another process
FAR = 1 << 30  # a byte behind the text, since Windows hides what is locked
_held: set[Path] = set()  # folders, by this process


@contextmanager
def hold(
    folder: Path,  # is made, and removed again if it stays empty
    name: str,  # of the file in it that is locked meanwhile
) -> Iterator[None]:
    """Keep other processes out until the block ends, or the process.

    A block within a block for the same folder changes nothing. On a disk
    that knows no locks nobody is kept out. Raises `BlockingIOError`,
    naming the process that is in there, and `OSError`.
    """
    if (key := folder.resolve()) in _held:
        yield
        return
    made = [x for x in (folder, *folder.parents) if not x.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / name):
            _held.add(key)
            yield
    finally:
        _held.discard(key)
        for new in made:
            with suppress(OSError):  # it is not empty
                new.rmdir()


@contextmanager
def locked(
    path: Path,  # a file; is made, and removed
) -> Iterator[None]:
    "What `hold` does with one file, which tells who has it."
    file = open_locked(path)
    try:
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        if os.name == "nt":
            os.close(file)
        with suppress(OSError):
            path.unlink()
        if os.name != "nt":  # where only its owner may remove it
            os.close(file)


def open_locked(
    path: Path,  # a file
) -> int:  # its descriptor
    "Raise `BlockingIOError` if another process has it."
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock(file)
        except OSError as error:
            owner = os.read(file, 20).decode() or "?"
            os.close(file)
            raise BlockingIOError(
                f"{path.parent} is in use by process {owner}: wait until that "
                "has ended, stop it, or choose another folder"
            ) from error
        if os.name == "nt":  # where an open file cannot be removed
            return file
        with suppress(FileNotFoundError):  # its last owner removed it
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)


def lock(
    file: int,  # a descriptor
) -> None:
    "Raise `OSError` if another process has locked the file."
    try:
        if os.name == "nt":
            os.lseek(file, FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise
    finally:
        os.lseek(file, 0, os.SEEK_SET)
