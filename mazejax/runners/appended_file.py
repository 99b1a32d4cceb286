"""`AppendedFile`: whole records appended to a file, for all that a run writes as it goes on."""

import errno
import os
from pathlib import Path

from mazejax import files


class AppendedFile:
    """A file to which whole records are appended; the system has each when `append` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open(path, "ab", buffering=0)
        except OSError as error:
            raise files.as_file_error(path, "write", error) from error

    def append(self, record: bytes) -> None:
        """Write the record at the end, or leave the file as it was and raise a FileError."""
        try:
            begin = self._file.seek(0, os.SEEK_END)
            if self._file.write(record) != len(record):
                self._file.truncate(begin)  # or the next record would stand on half a one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise files.as_file_error(self._path, "write", error) from error

    def sync(self) -> None:
        """Bring all records to the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise files.as_file_error(self._path, "flush", error) from error

    def close(self) -> None:
        """Sync and let go of the file; a second time nothing happens."""
        if not self._file.closed:
            self.sync()
            self._file.close()
