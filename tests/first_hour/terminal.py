"""Commands on a terminal of their own."""

import fcntl
import os
import pty
import select
import struct
import termios
import time


class Terminal:
    """A command behind a pseudo-terminal; a context manager."""

    def __init__(self, command, cwd, env, columns=80):
        self.text = ""
        self.status = None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], command, env)
        size = struct.pack("HHHH", 40, columns, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, text):
        os.write(self._fd, text.encode())

    def _read(self, seconds):
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return None
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other side is closed
            data = b""
        self.text += data.decode(errors="replace")
        return data

    def wait_for(self, text, seconds=120):
        """Reads until `text` has come; what came since the last call."""
        start = len(self.text)
        end = time.monotonic() + seconds
        while text not in self.text[start:]:
            if time.monotonic() > end or self._read(1) == b"":
                raise AssertionError(f"no {text!r} in {self.text[start:]!r}")
        return self.text[start:]

    def finish(self, seconds=120):
        """Reads to the end; the exit code."""
        end = time.monotonic() + seconds
        while self._read(1) != b"":
            assert time.monotonic() < end, self.text
        self.status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self.status
