import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import InvalidURI
from skyplane_core.uri import Endpoint, locate, parse

ACCOUNT = "0123456789abcdef" * 2
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("s3://bucket", Endpoint("s3", "bucket", "")),
        ("s3://bucket/", Endpoint("s3", "bucket", "")),
        ("S3://bucket/k", Endpoint("s3", "bucket", "k")),
        ("s3://bucket/a/b.txt", Endpoint("s3", "bucket", "a/b.txt")),
        ("s3://bucket//a", Endpoint("s3", "bucket", "/a")),
        ("s3://bucket/a//b/", Endpoint("s3", "bucket", "a//b/")),
        ("s3://bucket/a?versionId=1#x", Endpoint("s3", "bucket", "a?versionId=1#x")),
        ("s3://bucket/a%20b+c d", Endpoint("s3", "bucket", "a%20b+c d")),
        ("s3://bucket/s3://x", Endpoint("s3", "bucket", "s3://x")),
        ("s3://bucket/../a", Endpoint("s3", "bucket", "../a")),
        ("gs://my_bucket.example.org/ключ", Endpoint("gcs", "my_bucket.example.org", "ключ")),
        ("az://account1/box", Endpoint("azure", "account1/box", "")),
        ("az://account1/box/", Endpoint("azure", "account1/box", "")),
        ("az://account1/box/a/b%20c?d#e", Endpoint("azure", "account1/box", "a/b%20c?d#e")),
        ("azure://account1/my-box-1//a", Endpoint("azure", "account1/my-box-1", "/a")),
        ("az://account1/$web/index.html", Endpoint("azure", "account1/$web", "index.html")),
        ("abfss://box@account1.dfs.core.windows.net/a/b%20", Endpoint("azure", "account1/box", "a/b%20")),
        ("abfs://box@account1.dfs.core.windows.net", Endpoint("azure", "account1/box", "")),
        ("abfs://box@account1.blob.core.windows.net/k", Endpoint("azure", "account1/box", "k")),
        ("wasb://box@account1.blob.core.windows.net/k", Endpoint("azure", "account1/box", "k")),
        ("WASBS://box@ACCOUNT1.blob.core.windows.net/k@l", Endpoint("azure", "account1/box", "k@l")),
        ("https://account1.blob.core.windows.net/box/a%20b+c/%E2%82%AC", Endpoint("azure", "account1/box", "a b+c/€")),
        ("https://account1.blob.core.windows.net:443/box", Endpoint("azure", "account1/box", "")),
        ("https://account1.dfs.core.windows.net/box/%3F", Endpoint("azure", "account1/box", "?")),
        ("r2://b/a/k", Endpoint("s3", "b", "a/k", "r2")),
        ("COS://b/k?", Endpoint("s3", "b", "k?", "cos")),
        (
            f"https://{ACCOUNT}.r2.cloudflarestorage.com/b/a%20k",
            Endpoint("s3", "b", "a%20k", "r2", f"https://{ACCOUNT}.r2.cloudflarestorage.com"),
        ),
        (
            f"https://{ACCOUNT}.EU.r2.cloudflarestorage.com/b",
            Endpoint("s3", "b", "", "r2", f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"),
        ),
        (
            "https://s3.private.eu-de.cloud-object-storage.appdomain.cloud/b/k",
            Endpoint("s3", "b", "k", "cos", "https://s3.private.eu-de.cloud-object-storage.appdomain.cloud"),
        ),
        ("file:///a/b", Endpoint("local", "", "/a/b")),
        ("file://localhost/a/b/", Endpoint("local", "", "/a/b/")),
        ("file:///a%20b?c#d", Endpoint("local", "", "/a%20b?c#d")),
        ("hdfs://namenode/a/b", Endpoint("hdfs", "", "/a/b", endpoint_url="hdfs://namenode")),
        (
            "HDFS://nn1.example.org:9820//a/./b/",
            Endpoint("hdfs", "", "/a/b/", endpoint_url="hdfs://nn1.example.org:9820"),
        ),
        ("hdfs://Service-1", Endpoint("hdfs", "", "/", endpoint_url="hdfs://Service-1")),
        ("hdfs://[::1]:8020/a?b#c%20d", Endpoint("hdfs", "", "/a?b#c%20d", endpoint_url="hdfs://[::1]:8020")),
        ("/a/b", Endpoint("local", "", "/a/b")),
        ("/", Endpoint("local", "", "/")),
        ("/.", Endpoint("local", "", "/")),
        ("//a///b//", Endpoint("local", "", "/a/b/")),
        ("a/b", Endpoint("local", "", "/home/me/a/b")),
        ("./s3//b", Endpoint("local", "", "/home/me/s3/b")),
        ("s3/b", Endpoint("local", "", "/home/me/s3/b")),
        ("./a/", Endpoint("local", "", "/home/me/a/")),
        (".", Endpoint("local", "", "/home/me/")),
        ("../a", Endpoint("local", "", "/home/me/../a")),
        ("a:b", Endpoint("local", "", "/home/me/a:b")),
        ("a/s3://b", Endpoint("local", "", "/home/me/a/s3:/b")),
    ],
)
def test_what_is_accepted(text: str, endpoint: Endpoint) -> None:
    assert parse(text, cwd="/home/me") == endpoint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("s3://b/\udcff", "UTF-8"),
        ("s3://", "bucket name is missing"),
        ("s3:///key", "bucket name is missing"),
        ("gs://my bucket/k", "cannot contain ' '"),
        ("s3://bucket?x/k", r"cannot contain '\?'"),
        ("s3://key:secret@bucket/k", "cannot contain '@'"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "alias"),
        ("s3:/bucket/key", "followed by //"),
        ("file:a", "followed by //"),
        ("az:x", "followed by //"),
        ("gcs:x", "followed by //"),
        ("gcs://bucket/k", "Write gs://bucket/k"),
        ("s3a://bucket/k", "Write s3://bucket/k"),
        ("abfs:x", "followed by //"),
        ("az://", "storage account is missing"),
        ("az:///box/k", "storage account is missing"),
        ("az://account1", "name of the container is missing .*Write az://account/container/key"),
        ("azure://account1//k", "name of the container is missing .*Write azure://account/container/key"),
        ("az://my-box/k", "'my-box' is not the name of a storage account"),
        ("az://ab/box/k", "3 to 24 lower-case letters"),
        ("az://account1/Box/k", "'Box' is not the name of a container"),
        ("az://account1/a--b/k", "single hyphens"),
        ("az://account1/-ab/k", "is not the name of a container"),
        ("az://account1/ab/k", "3 to 63"),
        (f"az://account1/{'b' * 64}/k", "3 to 63"),
        ("abfs://account1/box/k", "Write abfs://container@account.dfs.core.windows.net/key"),
        ("wasb://box@account1/k", "Write wasb://container@account.blob.core.windows.net/key"),
        ("abfss://box@account1.dfs.core.windows.net.example.org/k", "not the address of a container"),
        (
            "abfss://box@account1.dfs.core.usgovcloudapi.net/k",
            "https://account1.dfs.core.usgovcloudapi.net as its",
        ),
        (
            "https://account1.blob.core.chinacloudapi.cn/box/k",
            "https://account1.blob.core.chinacloudapi.cn as its",
        ),
        ("https://account1.blob.core.windows.net", "name of the container is missing"),
        ("https://account1.blob.core.windows.net/box/%FF", "not valid UTF-8"),
        ("https://account1.blob.core.windows.net/box/a%00b", "NUL"),
        ("https://account1.blob.core.windows.net:444/box/k", "not the address of a container"),
        ("https://account1.blob.core.windows.net/box/k?sv=1", "AZURE_STORAGE_SAS_TOKEN"),
        ("hdfs:/host/k", "followed by //"),
        ("hdfs:///k", "NameNode is missing"),
        ("hdfs://", "NameNode is missing"),
        ("hdfs://user@host/k", "no NameNode's address"),
        ("hdfs://host:0/k", "no NameNode's address"),
        ("hdfs://host:99999/k", "no NameNode's address"),
        ("hdfs://host:rpc/k", "no NameNode's address"),
        ("hdfs://host/a/../b", r"no '\.\.' in a path"),
        ("https://acc.R2.cloudflarestorage.com:443/b", "32 hexadecimal digits"),
        (f"http://{ACCOUNT}.r2.cloudflarestorage.com/b", "32 hexadecimal digits"),
        (f"https://{ACCOUNT}.r2.cloudflarestorage.com/", "bucket name is missing"),
        ("https://s3.eu-de.cloud-object-storage.appdomain.cloud", "bucket name is missing"),
        ("r2:///key", "Write r2://bucket/key"),
        ("cos:x", "followed by //"),
        ("https://storage.googleapis.com/b/k", "Write gs://"),
        ("https://b.s3.eu-west-1.amazonaws.com/k", "Write s3://"),
        ("http://minio:9000/b/k", "endpoint URL"),
        ("ftp://host/k", "unknown scheme ftp://"),
        ("file://host/k", "names the machine 'host'"),
        ("file://", "path is missing"),
        ("file://localhost", "path is missing"),
        ("s3//bucket/key", r"colon is missing after s3 .*Write s3://bucket/key, or \./s3//bucket/key for"),
        ("GS//bucket/key", "colon is missing after GS .*Write GS://bucket/key"),
        ("~", "shell"),
        ("~/x", "shell"),
    ],
)
def test_what_is_refused_and_the_next_step(text: str, said: str) -> None:
    with pytest.raises(InvalidURI, match=said):
        parse(text, cwd="/home/me")


def test_a_signature_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidURI) as caught:
        parse("https://account1.blob.core.windows.net/box/k?sv=1&sig=secret")
    assert "secret" not in str(caught.value)


@given(TEXT)
def test_azure_keys_are_taken_byte_for_byte(key: str) -> None:
    for text in (f"az://account1/box/{key}", f"abfs://box@account1.dfs.core.windows.net/{key}"):
        endpoint = parse(text)
        assert endpoint.key == key
        assert parse(endpoint.uri) == endpoint
        assert endpoint.uri == f"az://account1/box/{key}"


@given(st.sampled_from(["az://", "azure://", "abfs://", "wasbs://", "https://"]), TEXT)
def test_any_address_of_azure_is_an_endpoint_or_an_invalid_uri(scheme: str, text: str) -> None:
    try:
        endpoint = parse(scheme + text)
    except InvalidURI:
        return
    assert parse(endpoint.uri) == endpoint


def test_a_relative_path_needs_a_directory() -> None:
    with pytest.raises(InvalidURI, match="absolute path, or the whole URI, such as s3://bucket/key"):
        parse("a/b")


@pytest.mark.parametrize("place", ["s3:/", "gs:/", "r2:/", "cos:/", f"https://{ACCOUNT}.r2.cloudflarestorage.com"])
@given(key=TEXT)
def test_a_key_is_taken_byte_for_byte(place: str, key: str) -> None:
    endpoint = parse(f"{place}/bucket/{key}")
    assert endpoint.key == key
    assert parse(endpoint.uri) == endpoint


@given(TEXT)
def test_anything_is_an_endpoint_or_an_invalid_uri(text: str) -> None:
    try:
        endpoint = parse(text, cwd="/home/me")
    except InvalidURI:
        return
    assert endpoint.kind in ("s3", "gcs", "azure", "hdfs", "local")
    assert parse(endpoint.uri) == endpoint


@pytest.mark.parametrize(
    ("path", "directory", "root", "key"),
    [
        ("/a/b", False, "/a", "b"),
        ("/a/b", True, "/a/b", ""),
        ("/a/b/", False, "/a/b", ""),
        ("/a/..", False, "/a/..", ""),
        ("/a", False, "/", "a"),
        ("/", False, "/", ""),
        ("/", True, "/", ""),
    ],
)
def test_where_a_local_path_is_divided(path: str, *, directory: bool, root: str, key: str) -> None:
    assert locate(parse(path), directory=directory) == Endpoint("local", root, key)


def test_locate_leaves_buckets_and_located_paths_alone() -> None:
    assert locate(Endpoint("s3", "b", "k"), directory=True) == Endpoint("s3", "b", "k")
    assert locate(Endpoint("local", "/a", "b"), directory=True) == Endpoint("local", "/a", "b")


@pytest.mark.parametrize(
    ("path", "directory", "root", "key"),
    [("/a/b", False, "/a", "b"), ("/a/b", True, "/a/b", ""), ("/a/", False, "/a", ""), ("/", False, "/", "")],
)
def test_where_a_path_of_hdfs_is_divided(path: str, *, directory: bool, root: str, key: str) -> None:
    located = locate(parse(f"hdfs://nn:8020{path}"), directory=directory)
    assert located == Endpoint("hdfs", root, key, endpoint_url="hdfs://nn:8020")
    assert parse(located.uri).key.rstrip("/") == path.rstrip("/")


def test_a_located_path_still_reads_as_one() -> None:
    assert Endpoint("local", "/a", "b").uri == "file:///a/b"
