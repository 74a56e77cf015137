"""Files: whole or not at all, checked, and downloads that continue where they stopped."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest

from align.files import atomic_folder, atomic_write, cache_dir, read_json, sha256, write_json
from align.files import http as ranged
from align.files.fetch import download
from align.files.lock import hold_lock


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "made" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with atomic_write(path, "w") as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'wb' or 'w', not 'ab'"), atomic_write(tmp_path / "a", "ab"):
        pass


def test_json_round_trip_and_errors(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"ü": [1, 2.5, None]})
    assert read_json(path) == {"ü": [1, 2.5, None]}
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json is not JSON: .*line 1"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match=r"b\.json"):
        read_json(tmp_path / "b.json")


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ALIGN_CACHE")
    assert cache_dir().parts[-2:] == (".cache", "align")


CONTENT = bytes(range(256)) * 2000


class _Server(http.server.BaseHTTPRequestHandler):
    """Gives CONTENT with ranges; /short and /chunks cut the first answer; /missing is not there."""

    def __init__(self, log, *args):
        self.log = log
        super().__init__(*args)

    def do_GET(self):
        self.log.append((self.path, self.headers.get("Range")))
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].rstrip("-"))
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        body = CONTENT[start:]
        if self.path == "/nonsense":
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        self.send_response(206 if start else 200)
        if self.path == "/chunks" and len(self.log) == 1:  # as a server sends what it packs on request
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(b"%x\r\n%s\r\n%x\r\ncut" % (half, body[:half], half))
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.path == "/short" and len(self.log) == 1
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server():
    log = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Server, log))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", log
    httpd.shutdown()
    httpd.server_close()
    thread.join()


SUM = hashlib.sha256(CONTENT).hexdigest()


def test_download_checks_and_is_not_repeated(server, tmp_path):
    url, log = server
    path = download(f"{url}/a", tmp_path / "in" / "a", sha256=SUM, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    download(f"{url}/a", path, sha256=SUM)
    assert len(log) == 1
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_a_cut_download_is_continued(server, tmp_path):
    url, log = server
    assert download(f"{url}/short", tmp_path / "a", sha256=SUM).read_bytes() == CONTENT
    assert [span for _, span in log] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_cut_in_the_middle_of_a_chunk_is_tried_again(server, tmp_path):
    url, log = server
    assert download(f"{url}/chunks", tmp_path / "a", sha256=SUM).read_bytes() == CONTENT
    assert len(log) == 2
    with pytest.raises(OSError, match=r"cannot download .*/nonsense \(nonsense\s*\); fetch it elsewhere"):
        download(f"{url}/nonsense", tmp_path / "b", retries=1)


def test_a_complete_part_is_taken(server, tmp_path):
    url, _ = server
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download(f"{url}/a", tmp_path / "a", sha256=SUM).read_bytes() == CONTENT


def test_other_content_is_refused(server, tmp_path):
    url, _ = server
    with pytest.raises(OSError, match="did not give the file that is expected: sha256"):
        download(f"{url}/a", tmp_path / "a", sha256="0" * 64)
    assert not list(tmp_path.iterdir())
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(OSError, match=r"4 bytes instead of 5; remove it"):
        download(f"{url}/a", tmp_path / "b", size=5)
    with pytest.raises(OSError, match=f"md5 {hashlib.md5(b'mine').hexdigest()} instead of {'0' * 32}"):
        download(f"{url}/a", tmp_path / "b", md5="0" * 32)
    assert download(f"{url}/a", tmp_path / "c", md5=hashlib.md5(CONTENT).hexdigest()).read_bytes() == CONTENT
    assert (tmp_path / "b").read_bytes() == b"mine"


def test_offline_and_missing_are_one_line(server, tmp_path):
    url, log = server
    with pytest.raises(OSError, match=r"cannot download .*/missing \(Not Found\); fetch it elsewhere and put it at"):
        download(f"{url}/missing", tmp_path / "a")
    assert len(log) == 1  # no point in asking again
    with pytest.raises(OSError, match=r"cannot download .*refused.*put it at") as caught:
        download("http://127.0.0.1:9/x", tmp_path / "a", retries=1)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="only http"):
        download("file:///etc/passwd", tmp_path / "a")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as work:
        (work / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(RuntimeError), atomic_folder(target) as work:
        (work / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with atomic_folder(target) as work:
        (work / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_one_process_at_a_time_holds_a_lock(tmp_path):
    path = tmp_path / "made" / "a.lock"
    with hold_lock(path) as mine, hold_lock(path, wait=False) as second:
        assert mine
        assert not second
    with hold_lock(path, wait=False) as again:
        assert again
    assert not path.exists()


def test_a_lock_goes_with_its_process(tmp_path):
    """Killed while it holds the lock: the next one gets it."""
    code = "import os; from pathlib import Path; from align.files.lock import hold_lock\n"
    code += f"with hold_lock(Path({str(tmp_path / 'a.lock')!r})): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert (tmp_path / "a.lock").exists()
    with hold_lock(tmp_path / "a.lock", wait=False) as mine:
        assert mine


COUNTED = """
import sys
from pathlib import Path
from align.files.lock import hold_lock
path, counter = Path(sys.argv[1]), Path(sys.argv[2])
for turn in range(60):
    with hold_lock(path, wait=turn % 3 > 0) as mine:
        if mine:
            n = int(counter.read_text())
            counter.write_text(str(n + 1))
            print(n)
"""


def test_a_lock_whose_file_is_removed_is_held_by_one_of_those_that_wait(tmp_path):
    """Each of many processes counts on, so that a number that two of them read shows that both had the lock."""
    path, counter = tmp_path / "a.lock", tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNTED, path, counter]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    found = [[int(line) for line in process.communicate(timeout=60)[0].split()] for process in running]
    assert [process.returncode for process in running] == [0] * 6
    assert min(map(len, found)) >= 20  # each turn that waits
    numbers = sorted(n for one in found for n in one)
    assert numbers == list(range(len(numbers)))
    assert not path.exists()


@pytest.mark.parametrize("ended", ["removed", "replaced"])
def test_a_lock_of_a_file_that_is_gone_is_taken_anew(tmp_path, monkeypatch, ended):
    """The holder removes its file after another has opened it and before that one locks it."""
    import fcntl

    path, lock, calls = tmp_path / "a.lock", fcntl.flock, []

    def late(file, how):
        calls.append(how)
        if len(calls) == 1:
            path.unlink()
            if ended == "replaced":
                path.write_text("")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with hold_lock(path) as mine:
        assert mine
        assert len(calls) == 2
        with hold_lock(path, wait=False) as second:
            assert not second
    assert not path.exists()


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path):
    """As a data worker, which is forked while its parent has the lock. Another process has waited since before."""
    code = "import sys, os, time; from pathlib import Path; from align.files.lock import hold_lock\n"
    code += "with hold_lock(Path(sys.argv[1])):\n    print(1, flush=True); sys.stdin.readline()\n"
    code += "    if (child := os.fork()) == 0: time.sleep(60); os._exit(0)\n"
    code += "print(child, flush=True); os._exit(0)"
    command = [sys.executable, "-c", code, tmp_path / "a.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        file = os.open(tmp_path / "a.lock", os.O_RDWR)
        holder.stdin.write("\n")
        holder.stdin.flush()
        child = int(holder.stdout.readline())
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while the child has it
        finally:
            os.close(file)
            os.kill(child, 9)


def test_where_nothing_can_be_locked_nobody_waits(tmp_path):
    (tmp_path / "file").write_text("")
    with hold_lock(tmp_path / "file" / "a.lock") as one, hold_lock(tmp_path / "file" / "a.lock") as two:
        assert one
        assert two


def test_a_url_is_shown_without_secrets():
    assert ranged.display_url("https://me:pw@host:8/a/b.tar?X-Signature=1#x") == "https://host:8/a/b.tar?…"
    assert ranged.display_url("s3://bucket/a.tar") == "s3://bucket/a.tar"
