"""Stores at a URL: a real object store's server, and a connection that breaks."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from fsspec.core import url_to_fs
from test_resume import (  # noqa: F401
    SETTINGS,
    equal,
    improve,
    observations,
    opened,
    scheme,
    straight,
)

import daml
from daml.cli import main
from daml.errors import InputError, StoreError
from daml.stores import filling, keeper, remote
from daml.stores.opening import open_record
from daml.stores.store import Store


class Line:
    """A connection to a server that can be cut after some bytes; then nobody answers."""

    def __init__(self, server):
        self.server, self.left = server, None
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                client, _ = self.door.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self.server))
            for ends in ((client, there, True), (there, client, False)):
                threading.Thread(target=self.pass_on, args=ends, daemon=True).start()

    def pass_on(self, source, target, upward):
        try:
            while content := source.recv(1 << 14):
                if upward and self.left is not None:
                    content, rest = content[: self.left], content[self.left :]
                    self.left -= len(content)
                    target.sendall(content)
                    if rest or not self.left:
                        break
                else:
                    target.sendall(content)
        except OSError:
            pass
        for end in (source, target):
            end.close()


# Of the session: fsspec keeps its connections, and they must not lead to a server that has ended
# where tests of another module come between those of this one.
@pytest.fixture(scope="session")
def line():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(words, **quiet)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
            break
        except OSError:
            time.sleep(0.1)
    yield Line(port)
    server.kill()
    server.wait()


@pytest.fixture
def bucket(line, monkeypatch, request):
    line.left = None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    files, _ = url_to_fs("s3://", skip_instance_cache=True)
    name = f"daml{abs(hash(request.node.name))}"
    files.mkdir(name)
    return f"s3://{name}"


def test_a_loop_at_a_url_is_that_of_a_folder(bucket, observations, scheme, straight):  # noqa: F811
    tree = improve(observations, scheme, f"{bucket}/deep/store.zarr")
    equal(tree, straight)
    equal(opened(f"{bucket}/deep/store.zarr"), straight)
    emulator = daml.load_emulator(f"{bucket}/deep/store.zarr", 0)
    assert emulator.variables == ("x0", "x1", "x2")
    emulator.save(f"{bucket}/emulator.zarr")
    assert daml.load_emulator(f"{bucket}/emulator.zarr").hidden == SETTINGS["hidden"]
    with pytest.raises(InputError, match="exists"):
        improve(observations, scheme, f"{bucket}/deep/store.zarr")
    shown = CliRunner().invoke(main, ["info", f"{bucket}/deep/store.zarr"])
    assert "LSTM-2" in shown.output
    assert Store(f"{bucket}/deep/store.zarr").place.fs.find(bucket).count(".lock") == 0


@pytest.mark.parametrize(
    "size",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in (20_000, 60_000, 230_000)), 150_000],
)
def test_a_connection_that_breaks_half_way(
    size,
    line,
    bucket,
    observations,  # noqa: F811
    scheme,  # noqa: F811
    straight,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(keeper, "PAUSE", 0.0)
    monkeypatch.setattr(remote, "LEASE", 1.0)
    store = f"{bucket}/store.zarr"
    line.left = size
    with pytest.raises(StoreError, match=r"store\.zarr: cannot (read|write|remove) ") as caught:
        improve(observations, scheme, store)
    assert "\n" not in str(caught.value)
    line.left = None
    if Store(store).made():
        for group in opened(store).groups:
            opened(store)[group].to_dataset(inherit=False).load()
    time.sleep(1.1)  # the lock of the run before dies
    equal(improve(observations, scheme, store, resume=True), straight)


def test_a_second_run_is_refused_and_a_dead_one_is_taken_over(bucket, monkeypatch):
    store, other = Store(f"{bucket}/store.zarr"), Store(f"{bucket}/store.zarr")
    with store.lock(), pytest.raises(StoreError, match="another run is writing"), other.lock():
        pass
    monkeypatch.setattr(remote, "LEASE", 0.6)
    with store.lock():
        time.sleep(0.8)  # it is renewed meanwhile
        with pytest.raises(StoreError, match="another run is writing"), other.lock():
            pass
        dead = json.dumps({"run": "dead", "host": "there", "time": 0.0}).encode()
        for _ in range(20):
            store.place.fs.pipe_file(store.place._at(".lock"), dead)
            try:
                with other.lock(), pytest.raises(StoreError, match="taken it over"):
                    store.save("checkpoint.npz", {})
            except StoreError:  # a renewal that was under way came after the dead one
                continue
            return
        pytest.fail("the dead run was never taken over")


def test_a_record_is_streamed_to_a_url_and_from_it(bucket, scheme):  # noqa: F811
    truth = daml.simulate(daml.Lorenz63(), steps=3000, spinup=500, store=f"{bucket}/truth.zarr")
    seen = daml.observe(truth, seed=1, store=f"{bucket}/seen.zarr")
    found = daml.assimilate(daml.Lorenz63(), seen, scheme, store=f"{bucket}/found.zarr")
    here = daml.simulate(daml.Lorenz63(), steps=3000, spinup=500)
    here = daml.assimilate(daml.Lorenz63(), daml.observe(here, seed=1), scheme)
    xr.testing.assert_identical(found.load(), here)
    with pytest.raises(InputError, match="exists"):
        daml.observe(truth, store=f"{bucket}/seen.zarr")


def test_a_record_that_breaks_off_leaves_nothing(line, bucket):
    truth = daml.simulate(daml.Lorenz63(), steps=20_000, spinup=500)
    url = f"{bucket}/seen.zarr"
    line.left = 60_000
    with pytest.raises(StoreError, match=r"seen\.zarr"):
        daml.observe(truth, store=url)
    line.left = None
    with pytest.raises(StoreError, match=r"no such file|neither"):
        daml.stores.opening.open_record(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://nobody/store.zarr", "cannot write there.*check the bucket"),
        ("nothing://store.zarr", "check the URL"),
    ],
)
def test_a_url_that_leads_nowhere(bucket, url, text, observations, scheme):  # noqa: F811
    with pytest.raises((StoreError, InputError), match=text) as caught:
        improve(observations, scheme, url)
    assert "\n" not in str(caught.value)
    with pytest.raises((StoreError, InputError), match=r"check the (path|URL)"):
        daml.load_emulator(url)


@pytest.mark.slow
def test_the_command_line_goes_on_at_a_url(bucket, observations, tmp_path):  # noqa: F811
    observations.to_netcdf(tmp_path / "record.nc")
    words = ["improve", str(tmp_path / "record.nc"), "--model", "lorenz63", "--epochs", "1"]
    words += ["--passes", "1", "--store", f"{bucket}/store.zarr"]
    assert CliRunner().invoke(main, words).exit_code == 0
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2
    assert "--resume" in again.output
    assert CliRunner().invoke(main, [*words, "--resume"]).exit_code == 0
    assert np.isfinite(opened(f"{bucket}/store.zarr")["iteration/0000"].analysis).all()
    assert not os.path.exists("s3:")


@pytest.mark.slow
def test_what_is_overwritten_at_a_url_is_checked_before_it_is_deleted(bucket, observations, scheme):  # noqa: F811
    store = f"{bucket}/store.zarr"
    improve(observations, scheme, store, passes=1)

    def content():
        fs = Store(store).place.fs
        return {name: fs.cat_file(name) for name in fs.find(bucket)}

    before = content()
    for more, text in [
        ({"passes": 0}, "'passes' is 0"),
        ({"passes": 1, "held_out": 0.2}, "held-out rows"),
    ]:
        with pytest.raises(InputError, match=text):
            improve(observations.isel(time=slice(400)), scheme, store, overwrite=True, **more)
        assert content() == before
    fs = Store(store).place.fs
    fs.pipe_file(f"{store}/iteration/mine.txt", b"dear")
    with pytest.raises(InputError, match=r"it holds 'iteration/mine\.txt'"):
        improve(observations, scheme, store, passes=2, overwrite=True)
    fs.rm(f"{store}/iteration/mine.txt")
    assert content() == before
    improve(observations, scheme, store, passes=2, overwrite=True)
    assert list(opened(store)["iteration"].children) == ["0000", "0001"]
    with pytest.raises(InputError, match=r"the record lies at|'observation' is missing"):
        improve(open_record(f"{store}/"), scheme, store, overwrite=True)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_at_a_url_keep_their_resolution(bucket, unit):
    for first in ("2020-01-01", "1000-01-01" if unit != "ns" else "1700-01-01"):
        time = np.datetime64(first).astype(f"M8[{unit}]") + np.arange(3).astype(f"m8[{unit}]")
        given = xr.Dataset({"a": ("time", np.arange(3.0))}, {"time": time})
        filling.save(given, f"{bucket}/{unit}{first}.zarr", "the record")
        filling.write(given, f"{bucket}/{unit}{first}.zarr")
        found = open_record(f"{bucket}/{unit}{first}.zarr").load()
        xr.testing.assert_identical(found, given)
        assert found.time.dtype == given.time.dtype
