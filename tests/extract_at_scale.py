"""Extraction at full size: what the tests do small, in processes that are really killed, on disks that are really full.

    python -m tests.extract_at_scale kill [--count 40000 --kills 20]
    python -m tests.extract_at_scale corrupt [--count 1000]
    python -m tests.extract_at_scale full-disk [--count 2000]       wants to mount a tmpfs: as root, on Linux
    python -m tests.extract_at_scale many [--count 100000]
    python -m tests.extract_at_scale decoders [--count 6000]
    python -m tests.extract_at_scale inject
    python -m tests.extract_at_scale memory
    python -m tests.extract_at_scale soak [--minutes 20]

Each prints what it found, one figure a line, and ends with status 1 where something is not as promised.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import npresnet
from npresnet.errors import NpResNetError
from npresnet.extraction.shards import ShardFiles
from tests.support.pictures import bad_pictures, encoded, good_pictures, noise, odd_pictures
from tests.support.thin import thin_file

failures = 0


def tell(what: str, value: object, right: bool | None = None) -> None:
    """A figure, and whether it is as it is to be."""
    global failures
    failures += right is False
    print(f"{what:<60}{value!s:>16}{'' if right is None else '  ok' if right else '  WRONG'}", flush=True)


def command(photos: Path, weights: Path, out: Path, *more: object) -> list[str]:
    options = ["--weights", weights, "--out", out, "--size", "64x64", *more]
    return [sys.executable, "-m", "npresnet", "extract", str(photos), *map(str, options)]


def run(photos: Path, weights: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(photos, weights, out, *more), capture_output=True, text=True)


def hash_in(output: str) -> str:
    return next((line.split()[1] for line in output.splitlines() if line.startswith("sha256")), "")


def kill(folder: Path, count: int, kills: int) -> None:
    """Killed at random moments, with its decoders; the features are those of a run that nobody disturbed."""
    photos, weights, out = folder / "photos", thin_file(folder, 8), folder / "out"
    good_pictures(photos, count, 64, folders=7)
    expected = hash_in(run(photos, weights, folder / "reference", "--images-per-shard", 50).stdout)
    chance = random.Random(0)
    starts: list[float] = []
    killed = 0  # in the midst of the job
    for number in range(kills):
        start, before = time.monotonic(), time.time()
        process = subprocess.Popen(
            command(photos, weights, out, "--images-per-shard", 50, "--batch", 1),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait = chance.uniform(0.5, 5)
        while time.monotonic() - start < wait and process.poll() is None:
            time.sleep(0.01)
            with contextlib.suppress(OSError, ValueError):
                status = json.loads((out / "status.json").read_bytes())
                if len(starts) <= number and status["time"] > before and status["computed"]:
                    starts.append(time.monotonic() - start)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    tell("kills in the midst of the job", f"{killed} of {kills}", killed >= kills / 2)
    done = run(photos, weights, out, "--images-per-shard", 50)
    tell("features of the killed job", hash_in(done.stdout)[:12], hash_in(done.stdout) == expected != "")
    tell("half files that are left", len(list(out.rglob("*.part"))), not list(out.rglob("*.part")))
    tell("images that were left for the last run", done.stdout.split("computed")[1].split()[0])
    if starts:
        tell("seconds to the first images of a run, at most", f"{max(starts):.2f}", max(starts) < 3)


def shards_there(out: Path) -> int:
    return len(list((out / "shards").glob("*.jsonl"))) if out.exists() else 0


def corrupt(folder: Path, count: int) -> None:
    """A tenth of the files are bad."""
    photos, weights = folder / "photos", thin_file(folder, 8)
    good_pictures(photos, count * 9 // 10, 64)
    odd = odd_pictures(photos)
    good = run(photos, weights, folder / "good")
    expected = bad_pictures(photos, bomb_side=30_000, count=count // 10)
    for name in ("loop.jpg", "folder.jpg"):
        (photos / name).symlink_to(name if name == "loop.jpg" else photos)
    start = peak_of_children()
    found = run(photos, weights, folder / "out")
    errors = npresnet.open_features(folder / "out").errors
    wrong = set(errors) ^ set(expected)
    wrong |= {name for name, text in errors.items() if text.split(":")[0] not in expected.get(name, ())}
    tell("exit status", found.returncode, found.returncode == 1)
    tell(f"failures, of {len(expected)} bad files", len(errors), not wrong)
    tell("odd ones that are good", len(odd))
    tell("features of the good ones", hash_in(found.stdout)[:12], hash_in(found.stdout) == hash_in(good.stdout) != "")
    tell(
        "peak memory of a process, MB more than without",
        f"{peak_of_children() - start:.0f}",
        peak_of_children() - start < 300,
    )
    names = sorted(name for name in expected if name.startswith("cut-"))
    for name in names[: len(names) // 2]:
        (photos / name).write_bytes(encoded(noise(64, 64, 9), "JPEG" if name.endswith("jpg") else "PNG"))
    found = run(photos, weights, folder / "out", "--retry-failed")
    left = len(expected) - len(names) // 2
    tell("failures after half of the cut ones are repaired", len(npresnet.open_features(folder / "out").errors))
    tell("images computed for that", found.stdout.split("computed")[1].split()[0], f"{left} failures" in found.stdout)


def peak_of_children() -> float:
    """MB of the largest child process until now."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def full_disk(folder: Path, count: int) -> None:
    """A disk of 8 MB, and a limit on the size of files."""
    photos, weights, disk = folder / "photos", thin_file(folder, 8), folder / "disk"
    good_pictures(photos, count, 64)
    options = ["--layers", "c3", "--pool", "none", "--images-per-shard", 50]
    expected = hash_in(run(photos, weights, folder / "reference", *options).stdout)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    try:
        found = run(photos, weights, disk / "out", *options)
        tell("exit status on a full disk", found.returncode, found.returncode == 1)
        tell("what it says", "", "the disk is full" in found.stderr and "bytes" in found.stderr)
        print(found.stderr.strip().splitlines()[-1])
        tell("shards that are there", shards_there(disk / "out"), shards_there(disk / "out") > 0)
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        found = run(photos, weights, disk / "out", *options)
        tell("features once there is room", hash_in(found.stdout)[:12], hash_in(found.stdout) == expected != "")
    finally:
        subprocess.run(["umount", disk], check=True)


def many(folder: Path, count: int) -> None:
    """Tiny files, a tenth of them first: memory does not grow with their number."""
    weights, peaks = thin_file(folder, 8), []
    code = """
import resource, sys, time, npresnet
start = time.monotonic(); first = []
def seen(now):
    if now.computed and not first: first.append(time.monotonic() - start)
s = npresnet.extract(sys.argv[1], sys.argv[2], sys.argv[3], size="32x32", progress=seen)
print(first[0], s.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, s.rows)
"""
    net = npresnet.load(weights)
    for part in (count // 10, count):
        photos, out = folder / f"photos-{part}", folder / f"out-{part}"
        good_pictures(photos, part, 32, folders=100)
        done = subprocess.run(
            [sys.executable, "-c", code, photos, weights, out], capture_output=True, text=True, check=True
        )
        first, seconds, peak, rows = map(float, done.stdout.split())
        tell(f"{part} images: seconds to the first", f"{first:.2f}", first < 5)
        tell(f"{part} images: rows", f"{rows:.0f}", rows == part)
        tell(f"{part} images: peak memory, MB", f"{peak:.0f}")
        peaks.append(peak)
        paths = [str(path) for path in sorted((photos / "000").iterdir())[:100]]
        start = time.perf_counter()
        for path in paths:
            net.prepare(path, "32x32")
        decode = (time.perf_counter() - start) / len(paths) * 1e3
        images = net.prepare(paths[:32], "32x32")
        net(images)
        start = time.perf_counter()
        for _ in range(20):
            net(images, outputs=[net.graph.features["C5"]])
        alone = (time.perf_counter() - start) / 20 / 32 * 1e3
        cost = seconds / part * 1e3
        tell(f"{part} images: ms each; decoding; the network", f"{cost:.3f}; {decode:.3f}; {alone:.3f}")
        tell(f"{part} images: ms each beyond both", f"{cost - decode - alone:.3f}", cost - decode - alone < 0.15)
    tell("memory of all over that of a tenth", f"{peaks[1] / peaks[0]:.2f}", peaks[1] < 1.2 * peaks[0])


def decoders(folder: Path, count: int) -> None:
    """Decoders are killed, ten times."""
    photos, weights, out = folder / "photos", thin_file(folder, 8), folder / "out"
    good_pictures(photos, count, 64)
    process = subprocess.Popen(command(photos, weights, out, "--batch", 1), stdout=subprocess.PIPE, text=True)
    killed = 0
    while killed < 10 and process.poll() is None:
        time.sleep(0.8)  # a decoder has started by then, and is at work
        for child in children_of(process.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGSEGV)
                killed += 1
    process.communicate()
    features = npresnet.open_features(out)
    tell(
        f"decoders killed, of them in the midst of an image ({killed})",
        len(features.errors),
        len(features.errors) <= killed,
    )
    tell("rows and failures", len(features) + len(features.errors), len(features) + len(features.errors) == count)
    tell(
        "what is recorded",
        set(features.errors.values()),
        set(features.errors.values()) <= {"crash: its decoder ended with SIGSEGV"},
    )


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


INJECTED = """
import os, sys, npresnet
from tests.support.faulty_files import FaultyFiles
photos, weights, out, number, kind = sys.argv[1:]
with FaultyFiles(out, int(number), kind, stop=lambda: os._exit(77)) as disk:
    try:
        npresnet.extract(photos, weights, out, size="32x32", images_per_shard=7, decoders=1)
    except npresnet.NpResNetError as error:
        print(error); sys.exit(3)
sys.exit(0 if disk.count >= int(number) else 9)
"""


def inject(folder: Path) -> None:
    """A process ends, or an operation fails, at the n-th operation on files, for every n; then the same command again."""
    photos, weights = folder / "photos", thin_file(folder, 8)
    good_pictures(photos, 20, 32)
    options: dict[str, Any] = {"size": "32x32", "images_per_shard": 7, "decoders": 1}
    expected = npresnet.extract(photos, weights, folder / "reference", **options).sha256
    net = npresnet.load(weights)
    for kind in ("crash", "EIO", "ENOSPC"):
        number, wrong = 0, []
        while True:
            number += 1
            out = folder / f"{kind}-{number}"
            out.mkdir()
            done = subprocess.run(
                [sys.executable, "-c", INJECTED, photos, weights, out, str(number), kind],
                capture_output=True,
                text=True,
            )
            if done.returncode == 9:
                break
            if done.returncode not in ((77,) if kind == "crash" else (0, 3)) or not whole(out):
                wrong.append(f"{number}: {done.returncode} {done.stderr[-200:]}")
            if npresnet.extract(photos, net, out, **options).sha256 != expected or list(out.rglob("*.part")):
                wrong.append(f"{number}: other features, or half files")
            shutil.rmtree(out)
        tell(f"{kind} at each of the operations on files", number - 1, not wrong)
        print(*wrong, sep="\n", end="\n" if wrong else "")


def whole(out: Path) -> bool:
    try:
        for path in (out / "shards").glob("*.jsonl"):
            files = ShardFiles(out, int(path.stem))
            trailer = files.trailer()
            if trailer is None or len(files.rows(trailer, check=True)) != trailer.rows:
                return False
    except NpResNetError:
        return False
    return True


def memory(folder: Path) -> None:
    """Less and less memory: a clear error or success, never a half file."""
    photos, weights = folder / "photos", thin_file(folder, 8)
    good_pictures(photos, 20, 32)
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[4]) * 2**20,) * 2)
sys.argv = ["npresnet", "extract", sys.argv[1], "--weights", sys.argv[2], "--out", sys.argv[3], "--size", "32x32", "--decoders", "1"]
from npresnet.__main__ import main
main()
"""
    seen: dict[str, int] = {}
    limits = (*range(50, 500, 10), *range(500, 1600, 50))
    for limit in limits:
        out = folder / f"out-{limit}"
        done = subprocess.run(
            [sys.executable, "-c", code, photos, weights, out, str(limit)], capture_output=True, text=True
        )
        last = (done.stderr.strip().splitlines() or [""])[-1]
        clear = done.returncode == 0 or ("Traceback" not in done.stderr and last.startswith("npresnet:"))
        seen[f"status {done.returncode}"] = seen.get(f"status {done.returncode}", 0) + 1
        if not clear or not (not out.exists() or whole(out)):
            tell(f"with {limit} MB", f"status {done.returncode}: {last[-80:]}", False)
    tell(f"ends, from {limits[0]} to {limits[-1]} MB", seen, seen.get("status 0", 0) > 0)


def resident(pid: int) -> float:
    """MB of a process."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return 0.0


def soak(folder: Path, minutes: float) -> None:
    """Jobs one after the other in one process for a long time, with bad files, decoders that are killed, and repairs."""
    weights = thin_file(folder, 8)
    net, chance = npresnet.load(weights), random.Random(0)
    photos = folder / "photos"
    good_pictures(photos, 400, 64, folders=3)
    expected = npresnet.extract(photos, net, folder / "reference", size="64x64", images_per_shard=40).sha256
    bad_pictures(photos / "bad", bomb_side=15_000)
    samples: list[tuple[float, float]] = []
    end, jobs, start = time.monotonic() + 60 * minutes, 0, time.monotonic()
    opened, wrong = len(os.listdir("/proc/self/fd")), 0
    while time.monotonic() < end:
        out = folder / f"out-{jobs}"
        killed = 0

        def now_and_then(_progress: object) -> None:
            nonlocal killed
            for child in children_of(os.getpid()):
                if chance.random() < 0.05:
                    killed += 1
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)

        npresnet.extract(photos, net, out, size="64x64", images_per_shard=40, most_pixels=10**7, progress=now_and_then)
        found = npresnet.extract(
            photos, net, out, size="64x64", images_per_shard=40, most_pixels=10**7, retry_failed=True
        )
        shutil.rmtree(photos / "bad")
        wrong += found.rows != 400
        good = npresnet.open_features(out)
        wrong += len(good.errors) != found.failed
        bad_pictures(photos / "bad", bomb_side=15_000)
        shutil.rmtree(out)
        jobs += 1
        samples.append(((time.monotonic() - start) / 60, resident(os.getpid())))
    half = samples[len(samples) // 4 :]
    slope = float(np.polyfit([at for at, _ in half], [size for _, size in half], 1)[0]) if len(half) > 2 else 0.0
    tell("jobs", jobs)
    tell("jobs that went wrong", wrong, wrong == 0)
    tell("memory, MB a minute", f"{slope:.2f}", slope < 1)
    tell(
        "descriptors more than at the beginning",
        len(os.listdir("/proc/self/fd")) - opened,
        len(os.listdir("/proc/self/fd")) <= opened,
    )
    tell("children that are left", len(children_of(os.getpid())), not children_of(os.getpid()))
    found = npresnet.extract(photos, net, folder / "last", size="64x64", images_per_shard=40, most_pixels=10**7)
    tell("features at the end", found.sha256[:12], found.sha256 == expected)


@contextlib.contextmanager
def workplace(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="npresnet-extract-") as name:
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["kill", "corrupt", "full-disk", "many", "decoders", "inject", "memory", "soak"]
    )
    parser.add_argument("--count", type=int)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument(
        "--folder", type=Path, help="where to work, and to leave what comes of it; else a temporary one"
    )
    given = parser.parse_args()
    with workplace(given.folder) as folder:
        match given.what:
            case "kill":
                kill(folder, given.count or 40_000, given.kills)
            case "corrupt":
                corrupt(folder, given.count or 1000)
            case "full-disk":
                full_disk(folder, given.count or 2000)
            case "many":
                many(folder, given.count or 100_000)
            case "decoders":
                decoders(folder, given.count or 6000)
            case "inject":
                inject(folder)
            case "memory":
                memory(folder)
            case "soak":
                soak(folder, given.minutes)
    print(f"{failures} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
