"""The sandbox's file system: a tree in host memory, with quotas, that no host file can enter."""

from .nodes import FsError
from .system import FileSystem

__all__ = ["FileSystem", "FsError"]
