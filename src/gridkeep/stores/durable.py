"""Many new files made durable at once, where the file system can.

Ext4 with a journal commits in one go whatever was changed before: when the bytes of files are on the disk, the fsync of the
folder that they are renamed into makes their sizes, places and names durable, with one flush of the disk for all of them.
Other file systems promise less (btrfs logs single files), and there each file is fsynced.

Works on descriptors alone. Errors are the system's own (OSError).
"""

from __future__ import annotations

import ctypes
import errno
import os

_NO_JOURNAL = "<none>"
_WAIT_WRITE_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | …_WRITE | …_WAIT_AFTER of linux/fs.h

_libc = ctypes.CDLL(None, use_errno=True)


def commits_together(folder: int) -> bool:
    """Whether the fsync of a folder on this one's file system makes durable what was `written_back` and renamed into it.
    False where nobody tells: Linux lists each ext4 that is mounted by the name of its block device."""
    device = os.fstat(folder).st_dev
    try:
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        with open(f"/sys/fs/ext4/{name}/journal_task", encoding="ascii") as task:
            return task.read().strip() != _NO_JOURNAL
    except OSError:
        return False


def written_back(file: int) -> None:
    """Waits until the disk has been given the bytes of a file: they may be in its cache still, and their place untold."""
    nothing = ctypes.c_int64(0)
    if _libc.sync_file_range(file, nothing, nothing, _WAIT_WRITE_WAIT):
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EPERM):
            raise OSError(number, os.strerror(number))
        os.fsync(file)  # a sandbox that does not know the call
