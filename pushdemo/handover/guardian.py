"""The program that a server becomes when its successor is its own child.

Whoever has started the server (systemd, a shell, a supervisor) knows its process id, and waits for
that process. So it stays, with as little in it as can be: it passes signals on to the process that
serves, starts the next successor on SIGHUP, and ends as the last of them ends. It is started by
exec, and so keeps its id and its children; signals are blocked from before that.

    guardian.py PID AGAIN ADDRESS PROGRAM ARGUMENT…

PID: of the process that serves.
AGAIN: 1 where another SIGHUP has come meanwhile.
ADDRESS: where it can be taken over.
PROGRAM: the server, which takes over from what PUSHDEMO_TAKE_OVER in its environment names.

It imports nothing that is not needed: this is all that stays in memory of the old server.
"""

import os
import signal
import sys

VARIABLE = "PUSHDEMO_TAKE_OVER"
PID_FILE = "PUSHDEMO_PID_FILE"  # the path of the server's, if it has one
NOT_RELOADED = b"STATUS=nothing was reloaded"
PASSED = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
AWAITED = PASSED | {signal.SIGHUP, signal.SIGCHLD}


class Guardian:
    """serving, successor: process ids, 0 for none.
    again: the successor is to have one itself.
    """

    def __init__(self, serving: int, again: bool, address: str, command: "list[str]") -> None:
        self.serving = serving
        self.successor = 0
        self.again = again
        self.address = address
        self.command = command

    def run(self) -> int:
        """Returns the status of the last process that has served, as of waitpid."""
        # Where it is ignored, the ends of children would not be told.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            status = self.reap()
            if status is not None:
                return status
            if self.again and not self.successor:
                self.reload()
            number = signal.sigwait(AWAITED)
            if number == signal.SIGHUP:
                self.again = True
            elif number != signal.SIGCHLD:
                for pid in (self.serving, self.successor):
                    if pid:
                        os.kill(pid, number)  # it is not reaped, so the id is its own

    def reap(self) -> "int | None":
        """The status of the process that served, when there is none any more."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # started by another process, or reaped by somebody else
                return 0
            if not pid:
                return None
            if pid == self.successor:
                self.successor = 0
                say(f"nothing was reloaded: the new process ended ({cause(status)})")
            elif pid == self.serving:
                if not self.successor:
                    return status
                self.serving, self.successor = self.successor, 0

    def reload(self) -> None:
        self.again = False
        try:
            self.successor = os.posix_spawn(
                self.command[0],
                self.command,
                {**os.environ, VARIABLE: self.address},
                setsigmask=(),
            )
        except OSError as error:
            say(f"nothing was reloaded: {self.command[0]} cannot be started: {error}")


def cause(status: int) -> str:
    """How a process has ended."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def say(what: str) -> None:
    """To the log, and to who waits for a reload to be done."""
    print(f"pushdemo: {what}", file=sys.stderr, flush=True)
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:
        import socket  # seldom needed, and the largest part of this program

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(NOT_RELOADED, "\0" + notify[1:] if notify[0] == "@" else notify)
        except OSError:
            pass


def remove_pid_file() -> None:
    """That of the server, if it has this process's id."""
    path = os.environ.get(PID_FILE, "")
    try:
        with open(path) as file:
            is_ours = file.read().strip() == str(os.getpid())
        if is_ours:
            os.unlink(path)
    except OSError:
        pass


def end_as(status: int) -> None:
    """End this process as the other one has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    pid, again, address, *rest = sys.argv[1:]
    status = Guardian(int(pid), again == "1", address, rest).run()
    remove_pid_file()
    end_as(status)
