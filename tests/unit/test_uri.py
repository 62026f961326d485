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
        ("/a/b", Endpoint("local", "", "/a/b")),
        ("/", Endpoint("local", "", "/")),
        ("/.", Endpoint("local", "", "/")),
        ("//a///b//", Endpoint("local", "", "/a/b/")),
        ("a/b", Endpoint("local", "", "/home/me/a/b")),
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
        ("az://acc/c/k", "not supported yet"),
        ("azure://acc/c/k", "not supported yet"),
        ("abfs://acc/c/k", "not supported yet"),
        ("hdfs://host/k", "not supported yet"),
        ("https://acc.blob.core.windows.net/c/k", "Azure Blob Storage is not supported yet"),
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
        ("~", "shell"),
        ("~/x", "shell"),
    ],
)
def test_what_is_refused_and_the_next_step(text: str, said: str) -> None:
    with pytest.raises(InvalidURI, match=said):
        parse(text, cwd="/home/me")


def test_a_relative_path_needs_a_directory() -> None:
    with pytest.raises(InvalidURI, match="absolute path"):
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
    assert endpoint.kind in ("s3", "gcs", "local")
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


def test_a_located_path_still_reads_as_one() -> None:
    assert Endpoint("local", "/a", "b").uri == "file:///a/b"
