"""Consumers of arrays and bytes over real HTTP and S3: zarr, xarray, h5py, numpy, UPath."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from upath import UPath

from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
STACK = {"stack": "zcache:64M"}
pytestmark = [
    pytest.mark.process_wide("zarr", "ThreadPoolExecutor", "async"),
    pytest.mark.filterwarnings("ignore:.*consolidated.*"),
]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def grid() -> Any:
    return np.random.default_rng(1).random((200, 300))


def both(s3: S3) -> dict[str, Any]:
    return {"s3": dict(s3.options), "cleancache": dict(STACK)}  # fsspec adds to what it is given


def test_zarr_writes_and_reads_an_array(s3: S3, grid: Any) -> None:
    url = f"cleancache::s3://{BUCKET}/a.zarr"
    array = zarr.create_array(url, shape=grid.shape, chunks=(20, 30), dtype=grid.dtype, storage_options=both(s3))
    array[:] = grid

    again = zarr.open_array(url, mode="r", storage_options=both(s3))

    assert (again[:] == grid).all()
    s3.forget()
    assert (again[:] == grid).all()
    assert s3.requests["GET"] == 0


def test_zarr_reads_shards_by_ranges(s3: S3, grid: Any) -> None:
    url = f"cleancache::s3://{BUCKET}/shards.zarr"
    array = zarr.create_array(
        url, shape=grid.shape, chunks=(10, 10), shards=(100, 100), dtype=grid.dtype, storage_options=both(s3)
    )
    array[:] = grid

    again = zarr.open_array(url, mode="r", storage_options=both(s3))

    assert (again[3:77, 101:250] == grid[3:77, 101:250]).all()
    array[0, 0] = 7.0
    assert zarr.open_array(url, mode="r", storage_options=both(s3))[0, 0] == 7.0


def test_zarr_reads_from_local_files_below_directories_that_are_not_there_yet(tmp_path: Path, grid: Any) -> None:
    url = f"cleancache::file://{tmp_path}/new/deep/a.zarr"
    array = zarr.create_array(url, shape=grid.shape, chunks=(50, 50), dtype=grid.dtype, storage_options=STACK)

    array[:] = grid

    assert (zarr.open_array(url, mode="r", storage_options=STACK)[:] == grid).all()


def test_many_arrays_are_read_at_once_in_one_loop(s3: S3, grid: Any) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, asynchronous=True, **STACK)
    plain = fsspec.filesystem("s3", **s3.options)
    plain.pipe({f"{BUCKET}/many/{n}": grid[n].tobytes() for n in range(50)})

    async def read() -> Any:
        return await asyncio.gather(*(fs._cat_file(f"{BUCKET}/many/{n}") for n in range(50)))

    assert asyncio.run(read()) == [grid[n].tobytes() for n in range(50)]


def test_xarray_opens_zarr_and_netcdf(s3: S3, site: Site, tmp_path: Path, grid: Any) -> None:
    data = xr.Dataset({"t": (("y", "x"), grid)})
    data.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    data.to_zarr(f"cleancache::s3://{BUCKET}/x.zarr", storage_options=both(s3))

    with (
        dask.config.set(scheduler="sync"),
        xr.open_zarr(f"cleancache::s3://{BUCKET}/x.zarr", storage_options=both(s3)) as got,
    ):
        assert (got["t"].values == grid).all()
    with (
        fsspec.open(f"cleancache::{site.url}/x.nc", **STACK) as file,
        xr.open_dataset(file, engine="h5netcdf") as got,
    ):
        assert (got["t"].values == grid).all()


def test_h5py_reads_a_file_object_and_a_second_time_from_the_cache(site: Site, tmp_path: Path, grid: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as out:
        out.create_dataset("t", data=grid, chunks=(20, 30))
    fs, path = fsspec.url_to_fs(f"cleancache::{site.url}/x.h5", **STACK)

    for times in range(2):
        with fs.open(path) as file, h5py.File(file) as got:
            assert (got["t"][:] == grid).all()
        if times == 0:
            site.requests.clear()

    assert site.requests == {"HEAD": 1}


def test_numpy_loads_and_saves(s3: S3, grid: Any) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, **STACK)

    for array in (grid, grid + 1):
        with fs.open(f"{BUCKET}/a.npy", "wb") as out:
            np.save(out, array)
        with fs.open(f"{BUCKET}/a.npy") as file:
            assert (np.load(file) == array).all()


@pytest.mark.filterwarnings("ignore:UPath 'cleancache'")
def test_upath_reads_and_writes(s3: S3) -> None:
    path = UPath(f"cleancache::s3://{BUCKET}/k", **s3.options, **STACK)

    path.write_bytes(b"bytes")

    assert path.read_bytes() == b"bytes"
    assert path.exists()


def test_a_reference_file_system_reads_its_ranges_through_us(s3: S3) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, **STACK)
    fs.pipe_file(f"{BUCKET}/whole", bytes(range(200)))
    references = {f"k/{n}": [f"{BUCKET}/whole", n * 10, 5] for n in range(20)}

    kerchunk = fsspec.filesystem("reference", fo={"version": 1, "refs": references}, fs=fs, skip_instance_cache=True)

    assert kerchunk.cat(list(references)) == {f"k/{n}": bytes(range(n * 10, n * 10 + 5)) for n in range(20)}


def test_a_table_in_an_archive_on_s3_is_read_from_pages_the_second_time(s3: S3) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, **STACK)
    with fs.open(f"{BUCKET}/z.zip", "wb") as out, zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", "x,y\n1,2\n")
    url = f"zip://a.csv::cleancache::s3://{BUCKET}/z.zip"

    for _ in range(2):
        s3.forget()
        with fsspec.open(url, "rt", **both(s3)) as file:
            assert file.read() == "x,y\n1,2\n"

    assert s3.requests["GET"] == 0
