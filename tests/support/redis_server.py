"""A real redis-server for a test, on a socket of its own."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep


class RedisServer:
    """A server without a port or a dump; killed without farewell."""

    def __init__(self) -> None:
        # A socket's path is limited to about 100 characters, shorter than many test folders.
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        self._socket = self._folder / "s"
        self.url = f"unix://{self._socket}"
        self.start()

    @staticmethod
    def installed() -> bool:
        return shutil.which("redis-server") is not None

    def start(self) -> None:
        where = ["--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            ["redis-server", *where, "--save", "", "--daemonize", "no"], stdout=subprocess.DEVNULL
        )
        end = monotonic() + 10
        while not self._socket.exists() or self.command("PING") != ["PONG"]:
            if monotonic() > end:
                raise TimeoutError("redis-server did not answer within 10 seconds")
            sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """Keep connections open and answer nothing, as a server that hangs does."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def command(self, *words: str) -> list[str]:
        """The lines that redis-cli prints for a command."""
        cli = ["redis-cli", "-s", str(self._socket), *words]
        return subprocess.run(cli, capture_output=True, text=True, check=False).stdout.splitlines()
