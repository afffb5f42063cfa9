"""Consumers of tables over real HTTP and S3: pandas, pyarrow, dask, DuckDB, polars; most read twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
STACK = {"stack": "zcache:64M"}
ROWS = 50_000
# threads that these libraries keep for the process
pytestmark = [
    pytest.mark.process_wide("ThreadPoolExecutor", "Profile", "IO loop", "TCP-Executor", "Dask-Offload", "polars"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    chance = np.random.default_rng(1)
    return pd.DataFrame({"a": np.arange(ROWS), "b": chance.random(ROWS), "c": [f"row {n % 997}" for n in range(ROWS)]})


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def test_dask_takes_equal_instances_for_equal() -> None:
    from dask.base import tokenize

    first, second, other = (
        fsspec.filesystem("cleancache", target_protocol="memory", max_stale=stale, skip_instance_cache=True, **STACK)
        for stale in ("3s", "3s", "4s")
    )

    assert tokenize(first) == tokenize(second) != tokenize(other)


@pytest.fixture
def site(tmp_path: Path, frame: pd.DataFrame) -> Iterator[Site]:
    with serving(tmp_path) as site:
        frame.to_parquet(tmp_path / "x.parquet", row_group_size=10_000)
        frame.head(500).to_csv(tmp_path / "x.csv", index=False)
        yield site


@pytest.fixture(scope="module")
def stored(s3: S3, frame: pd.DataFrame) -> S3:
    fs = fsspec.filesystem("s3", **s3.options)
    for n in range(4):
        with fs.open(f"{BUCKET}/x/{n}.parquet", "wb") as file:
            frame.iloc[n * ROWS // 4 : (n + 1) * ROWS // 4].to_parquet(file)
    return s3


def both(s3: S3) -> dict[str, Any]:
    return {"s3": dict(s3.options), "cleancache": dict(STACK)}  # fsspec adds to what it is given


def source_bytes(url: str) -> int:
    fs, path = fsspec.url_to_fs(url, **STACK)
    return int(fs.reader(path).stats().source_bytes)


def gets(s3: S3) -> int:
    return s3.requests["GET"]


def test_pandas_reads_parquet_with_the_prefix_and_nothing_else(site: Site, frame: pd.DataFrame) -> None:
    url = f"cleancache::{site.url}/x.parquet"

    assert pd.read_parquet(url, storage_options=STACK).equals(frame)
    fetched = source_bytes(url)
    assert pd.read_parquet(url, storage_options=STACK).equals(frame)

    assert source_bytes(url) == fetched  # pyarrow's isfile is a GET of fsspec's whose body nobody reads, as without us


def test_pandas_gives_the_targets_options_to_the_target(stored: S3, frame: pd.DataFrame) -> None:
    got = pd.read_parquet(f"cleancache::s3://{BUCKET}/x/0.parquet", storage_options={**stored.options, **STACK})

    assert got.equals(frame.iloc[: ROWS // 4])


def test_pandas_reads_and_writes_csv(site: Site, frame: pd.DataFrame, stored: S3) -> None:
    head = frame.head(500)
    assert pd.read_csv(f"cleancache::{site.url}/x.csv", storage_options=STACK)["a"].equals(head["a"])
    options = both(stored)

    for rows in (head, head[::-1]):
        rows.to_csv(f"cleancache::s3://{BUCKET}/out.csv", index=False, storage_options=options)
        again = pd.read_csv(f"cleancache::s3://{BUCKET}/out.csv", storage_options=options)
        assert list(again["a"]) == list(rows["a"])


def test_pyarrow_reads_a_table_and_a_dataset(stored: S3, frame: pd.DataFrame) -> None:
    fs, path = fsspec.url_to_fs(f"cleancache::s3://{BUCKET}/x", **both(stored))

    table = pq.read_table(f"{path}/1.parquet", filesystem=fs)
    whole = ds.dataset(path, filesystem=fs, format="parquet")

    assert table["a"].to_pylist() == list(range(ROWS // 4, ROWS // 2))
    assert whole.to_table(columns=["b"])["b"].to_pylist() == frame["b"].to_list()
    stored.forget()
    assert whole.to_table(columns=["b"])["b"].to_pylist() == frame["b"].to_list()
    assert gets(stored) == 0
    assert whole.count_rows(filter=ds.field("a") < 100) == 100


def test_pyarrow_writes_what_it_then_reads(s3: S3) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, **STACK)

    for rows in (range(1000), range(500)):
        table = pa.table({"a": list(rows)})
        pq.write_table(table, f"{BUCKET}/w.parquet", filesystem=fs)
        assert pq.read_table(f"{BUCKET}/w.parquet", filesystem=fs).equals(table)
    ds.write_dataset(table, f"{BUCKET}/written", filesystem=fs, format="parquet")
    assert ds.dataset(f"{BUCKET}/written", filesystem=fs).to_table().equals(table)


def test_a_changed_table_is_read_at_once(site: Site, tmp_path: Path, frame: pd.DataFrame) -> None:
    url = f"cleancache::{site.url}/x.parquet"
    assert pd.read_parquet(url, storage_options=STACK).equals(frame)

    frame[::-1].reset_index(drop=True).to_parquet(tmp_path / "x.parquet")

    assert list(pd.read_parquet(url, storage_options=STACK)["a"][:3]) == [ROWS - 1, ROWS - 2, ROWS - 3]


def test_dask_reads_in_processes(stored: S3, frame: pd.DataFrame) -> None:
    import dask
    import dask.dataframe as dd

    options = both(stored)
    with dask.config.set({"dataframe.convert-string": False}):
        rows = dd.read_parquet(f"cleancache::s3://{BUCKET}/x/", storage_options=options)
        with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
            for how in ({"scheduler": "sync"}, {"pool": threads}, {"scheduler": "processes", "pool": processes}):
                with dask.config.set(how):
                    assert rows["b"].sum().compute() == pytest.approx(frame["b"].sum())


def test_dask_distributed_workers_each_own_their_pages(stored: S3, frame: pd.DataFrame) -> None:
    import dask.bag as db
    from distributed import Client, LocalCluster

    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=stored.options, **STACK)
    paths = [f"{BUCKET}/x/{n}.parquet" for n in range(4)]

    def rows(path: str) -> int:
        return int(pq.read_metadata(fs.open(path)).num_rows)

    cluster_of: Any = LocalCluster
    client_of: Any = Client
    bag: Any = db
    with (
        cluster_of(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        client_of(cluster),
    ):
        assert sum(bag.from_sequence(paths).map(rows).compute()) == ROWS


def test_duckdb_reads_through_a_registered_file_system(stored: S3, frame: pd.DataFrame) -> None:
    import duckdb

    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=stored.options, **STACK)
    with duckdb.connect() as con:
        con.register_filesystem(fs)
        query = f"select count(*), sum(a), sum(b) from read_parquet('cleancache://{BUCKET}/x/*.parquet')"
        first = con.execute(query).fetchone()
        stored.forget()
        again = con.execute(query).fetchone()

    assert first is not None
    assert first[:2] == (ROWS, ROWS * (ROWS - 1) // 2)
    assert again is not None
    assert again[:2] == first[:2]
    assert first[2] == pytest.approx(frame["b"].sum())
    assert fs.reader(f"{BUCKET}/x").stats().source_bytes > 0  # it asked us, and no client of its own


def test_duckdb_reads_http_and_sees_a_change(site: Site, tmp_path: Path, frame: pd.DataFrame) -> None:
    import duckdb

    fs = fsspec.filesystem("cleancache", target_protocol="http", **STACK)
    query = f"select sum(a) from read_parquet('cleancache://{site.url}/x.parquet')"
    with duckdb.connect() as con:
        con.register_filesystem(fs)
        assert con.execute(query).fetchone() == (frame["a"].sum(),)
        frame.head(10).to_parquet(tmp_path / "x.parquet")
        assert con.execute(query).fetchone() == (45,)


def test_polars_reads_a_file_object(site: Site, frame: pd.DataFrame) -> None:
    import polars as pl

    with fsspec.open(f"cleancache::{site.url}/x.parquet", **STACK) as file:
        assert pl.read_parquet(file)["a"].sum() == frame["a"].sum()


def test_fsspecs_parquet_helper_finds_its_columns(site: Site, frame: pd.DataFrame) -> None:
    from fsspec.parquet import open_parquet_file

    fs = fsspec.filesystem("cleancache", target_protocol="http", **STACK)
    with open_parquet_file(f"{site.url}/x.parquet", fs=fs, columns=["b"], engine="pyarrow") as file:
        assert pd.read_parquet(file, columns=["b"])["b"].equals(frame["b"])
