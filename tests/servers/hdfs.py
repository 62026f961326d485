"""A real HDFS on 127.0.0.1: Hadoop's own NameNode and DataNode, out of the jars that an old PySpark ships.

They live in a virtual environment of their own (``SKYPLANE_HADOOP_VENV``, or ``.venv-hadoop`` in the repository, made
by ``scripts/setup --servers``) and need a Java on PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.conformance.store_case import Unavailable

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_LIMIT = 90.0
_STOP_LIMIT = 10.0
_JVM = (
    "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
    "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)  # fmt: skip
_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
_LOG4J = """log4j.rootLogger=WARN,c
log4j.appender.c=org.apache.log4j.ConsoleAppender
log4j.appender.c.layout=org.apache.log4j.PatternLayout
log4j.appender.c.layout.ConversionPattern=%p %c: %m%n
"""


@dataclass(frozen=True)
class HdfsServer:
    """A running cluster of one NameNode and one DataNode; the user that runs the tests is its superuser."""

    directory: Path
    namenode: int
    web: int
    datanode: int
    command: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"hdfs://127.0.0.1:{self.namenode}"

    def shell(self, *arguments: str) -> bytes:
        """What Hadoop's own client answers: ``hdfs dfs ARGUMENTS``."""
        return self._run("org.apache.hadoop.fs.FsShell", *arguments)

    def admin(self, *arguments: str) -> bytes:
        """``hdfs dfsadmin ARGUMENTS``."""
        return self._run("org.apache.hadoop.hdfs.tools.DFSAdmin", *arguments)

    def blocks(self, path: str) -> bytes:
        """A file's bytes from the DataNode's disk: its blocks, in the order that Hadoop's own fsck tells."""
        told = self._run("org.apache.hadoop.hdfs.tools.DFSck", path, "-files", "-blocks").decode()
        names = re.findall(r"^\d+\. \S+:(blk_\d+)_", told, re.MULTILINE)
        found = {file.name: file for file in self.directory.rglob("blk_*") if not file.name.endswith(".meta")}
        return b"".join(found[name].read_bytes() for name in names)

    def overwrite(self, path: str, content: bytes) -> None:
        """Somebody else writes a file anew."""
        from hdfs_native import Client, WriteOptions

        writer = Client(self.url).create(path, WriteOptions(overwrite=True))
        writer.write(content)
        writer.close()

    def append(self, path: str, content: bytes) -> None:
        """Somebody else goes on writing a file."""
        from hdfs_native import Client

        writer = Client(self.url).append(path)
        writer.write(content)
        writer.close()

    def set_time(self, path: str, seconds: float) -> None:
        """Let a file have been written at that time."""
        from hdfs_native import Client

        Client(self.url).set_times(path, int(seconds * 1000), int(seconds * 1000))

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        from hdfs_native import Client

        client = Client(self.url)
        client.mkdirs(path, mode, True)
        client.set_permission(path, mode)

    def _run(self, *arguments: str) -> bytes:
        command = [*self.command, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout


@contextlib.contextmanager
def hdfs(directory: Path, listen: str = "127.0.0.1") -> Iterator[HdfsServer]:
    """Run HDFS below ``directory`` and end each process that it started.

    Args:
        listen: where the DataNode listens. The NameNode knows it as 127.0.0.1 whatever this is: any other address makes
            it one that clients cannot reach where they are told to.
    """
    java, jars = _programs()
    ports = dict(zip(("rpc", "web", "data", "data_web", "data_ipc"), _free_ports(5), strict=True))
    _write_configuration(directory, ports, listen)
    command = (java, *_JVM, "-cp", f"{directory}/conf:{directory}:{jars}/*")
    server = HdfsServer(directory, ports["rpc"], ports["web"], ports["data"], command)
    server._run(_NAMENODE, "-format", "-nonInteractive")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((directory / "hdfs.log").open("wb"))
        processes = []
        for main in (_NAMENODE, _DATANODE):
            process = subprocess.Popen(
                [*command, main],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                start_new_session=True,
            )
            processes.append(process)
            stack.callback(_stop, process)
        _wait(server, processes, directory / "hdfs.log")
        server.make_directory("/user", 0o777)
        yield server


def _programs() -> tuple[str, Path]:
    """Java, and where the jars are. Raises Unavailable."""
    venv = Path(os.environ.get("SKYPLANE_HADOOP_VENV") or _REPOSITORY / ".venv-hadoop")
    jars = next(venv.glob("lib/python*/site-packages/pyspark/jars"), None)
    java = shutil.which("java")
    if jars is None or java is None:
        raise Unavailable(f"no {'Hadoop in ' + str(venv) if jars is None else 'java'}: run scripts/setup --servers")
    return java, jars


def _write_configuration(directory: Path, ports: Mapping[str, int], listen: str) -> None:
    conf = directory / "conf"
    conf.mkdir()
    # Their web pages are not in the jars, and the servers insist on the directories.
    for pages in ("hdfs", "datanode", "static"):
        (directory / "webapps" / pages).mkdir(parents=True)
    (conf / "log4j.properties").write_text(_LOG4J)
    core = {"fs.defaultFS": f"hdfs://127.0.0.1:{ports['rpc']}", "hadoop.tmp.dir": f"{directory}/data"}
    hdfs_site = {
        "dfs.webhdfs.enabled": "false",
        "dfs.replication": "1",
        "dfs.namenode.http-address": f"127.0.0.1:{ports['web']}",
        "dfs.datanode.address": f"{listen}:{ports['data']}",
        "dfs.datanode.hostname": "datanode.invalid",
        "dfs.datanode.http.address": f"127.0.0.1:{ports['data_web']}",
        "dfs.datanode.ipc.address": f"127.0.0.1:{ports['data_ipc']}",
        # What the machine's disk has left is not what is tested.
        "dfs.datanode.du.reserved": "0",
        "dfs.namenode.resource.du.reserved": "0",
        "dfs.namenode.safemode.extension": "0",
    }
    for name, properties in (("core-site.xml", core), ("hdfs-site.xml", hdfs_site)):
        lines = "".join(
            f"<property><name>{key}</name><value>{escape(value)}</value></property>\n"
            for key, value in properties.items()
        )
        (conf / name).write_text(f"<configuration>\n{lines}</configuration>\n")


def _wait(server: HdfsServer, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    """Until the NameNode takes writes and knows of a DataNode."""
    query = "qry=Hadoop:service=NameNode,name=FSNamesystemState"
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline and not any(process.poll() is not None for process in processes):
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.web}/jmx?{query}", timeout=2) as answer:
                beans = json.load(answer)["beans"]
            # A DataNode that is alive and has not told of its disks yet gets no blocks.
            if any(bean["FSState"] == "Operational" and bean["CapacityRemaining"] > 0 for bean in beans):
                return
        time.sleep(0.1)
    raise RuntimeError(f"HDFS did not start:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]
