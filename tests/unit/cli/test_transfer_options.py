"""What options and arguments of the command line ask for, and what they cannot."""

import json

import pytest

from skyplane_core.cli.context import Context
from skyplane_core.filters import Filters, NameRule
from skyplane_core.model import AttributeRules, Compression, StoreConfig, Unfit
from skyplane_core.planner.plan import Via
from skyplane_core.spec import (
    Compare,
    DeleteCap,
    KeyMapping,
    MappingKind,
    Overwrite,
    Selection,
    ServerSideCopy,
    TransferOptions,
    Verification,
)
from tests.unit.cli.fakes import Captured, Shell


def test_a_tree_is_asked_for_as_a_tree(shell: Shell) -> None:
    shell("cp", "-r", "src", "out")
    [prepared] = shell.client.prepared
    assert prepared.source == StoreConfig("local", str(shell.home / "src"))
    assert prepared.destinations == (StoreConfig("local", str(shell.home / "out")),)
    assert prepared.spec.selection == Selection("", tree=True)
    assert prepared.refresh is not None
    assert prepared.refresh() == (prepared.source, prepared.destinations[0])


def test_an_object_is_asked_for_as_an_object(shell: Shell) -> None:
    assert shell("cp", "file", "src") == 0
    [prepared] = shell.client.prepared
    assert prepared.spec.selection == Selection("file", single=True)
    assert prepared.spec.destinations[0].mapping == KeyMapping(MappingKind.OBJECT, "file", "")
    assert prepared.destinations[0].bucket == str(shell.home / "src")


def test_sync_is_a_tree_and_exact(shell: Shell) -> None:
    assert shell("sync", "src", "out") == 0
    assert shell.client.prepared[0].spec.selection.tree
    assert shell.client.prepared[0].spec.options.compare is Compare.EXACT


@pytest.mark.parametrize(("more", "compare"), [([], Compare.EXACT), (["--compare", "always"], Compare.ALWAYS)])
def test_a_resumed_copy_keeps_what_has_arrived_unless_told_otherwise(
    shell: Shell, more: list[str], compare: Compare
) -> None:
    assert shell("cp", "-r", "--resume", "0" * 32, *more, "src", "out") == 0
    assert shell.client.prepared[0].spec.options.compare is compare


@pytest.mark.parametrize("how", [None, *Verification])
def test_what_is_verified_is_as_asked_for(shell: Shell, how: Verification | None) -> None:
    assert shell("cp", "-r", *(["--verify", how.value] if how else []), "src", "out") == 0
    assert shell.client.prepared[0].spec.options.verify is (how or Verification.TRANSFERRED)


@pytest.mark.parametrize("mode", ["--json", "--no-json"])
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--compression", "lz4"], True),
        (["--compression", "none"], True),
        (["--compression", "lz4", "--gateways", "2"], False),
        (["--compression", "auto"], False),
        ([], False),
    ],
)
def test_compression_that_has_no_effect_is_told(
    shell: Shell, capsys: Captured, argv: list[str], said: bool, mode: str
) -> None:
    assert shell("cp", "-r", mode, *argv, "src", "out") == 0
    out, err = capsys.readouterr()
    assert ("--gateways 2" in err) is said
    assert ('"event":"note"' in out) is (said and mode == "--json")


def test_options_reach_the_transfer(shell: Shell) -> None:
    argv = [
        "cp",
        "-r",
        "--gateways",
        "2",
        "--part-size",
        "8MiB",
        "--concurrency",
        "4",
        "--compression",
        "none",
        "--compare",
        "size",
    ]
    assert shell(*argv, "--resume", "0" * 32, "src", "out") == 0
    [prepared] = shell.client.prepared
    assert prepared.spec.options == TransferOptions(
        compare=Compare.SIZE, compression=Compression.NONE, part_size=8 << 20, concurrency=4
    )
    assert prepared.spec.transfer_id == "0" * 32
    assert shell.client.gateways == 2


def test_options_of_stores_and_attributes_reach_the_transfer(shell: Shell) -> None:
    argv = [
        *("--endpoint-url-source", "http://127.0.0.1:1", "--region-source", "eu-de", "--requester-pays-source"),
        *("--anonymous-source", "--addressing-source", "path"),
        *("--anonymous-destination", "--kms-key", "projects/p/locations/l/keyRings/r/cryptoKeys/k"),
        *("--metadata", "a=b=c", "--metadata", "d=", "--metadata-rename", "e=f", "--metadata-drop", "x-*"),
        *("--storage-class", "NEARLINE", "--keep-mtime", "--keep-mode", "--unfit", "rename", "--keep-tags"),
    ]
    assert shell("cp", "-r", *argv, "s3://b/p/", "gs://d/q/") == 0
    [prepared] = shell.client.prepared
    assert prepared.source == StoreConfig(
        "s3", "b", "http://127.0.0.1:1", "eu-de", path_style=True, requester_pays=True
    )
    assert prepared.destinations[0] == StoreConfig("gcs", "d", kms_key="projects/p/locations/l/keyRings/r/cryptoKeys/k")
    assert prepared.spec.options.attributes == AttributeRules(
        metadata={"a": "b=c", "d": ""},
        metadata_rename={"e": "f"},
        metadata_drop=("x-*",),
        storage_class="NEARLINE",
        keep_tags=True,
        keep_mtime=True,
        keep_mode=True,
        unfit=Unfit.RENAME,
    )
    assert prepared.refresh is not None
    assert prepared.refresh() == (prepared.source, prepared.destinations[0])


def test_what_every_copy_gets_and_what_is_chosen_reach_the_transfer(shell: Shell) -> None:
    headers = ["--content-type", "a/b", "--cache-control", "no-store", "--content-disposition", "inline"]
    more = ["--content-encoding", "br", "--content-language", "en", "--tag", "a=b", "--tag", "c=", "--acl", "private"]
    ends = ["--anonymous-source", "--anonymous-destination", "--match-glob", "**.csv"]
    assert shell("cp", "--dry-run", "-r", *headers, *more, *ends, "gs://b/p/", "s3://d/q/") == 0
    assert shell("cp", "--dry-run", *ends[:2], "--object-version", "17", "gs://b/p/a", "s3://d/q/") == 0
    first, second = shell.client.prepared
    assert first.spec.options.attributes == AttributeRules(
        "a/b", "no-store", "inline", "br", "en", tags={"a": "b", "c": ""}
    )
    assert (first.source.match_glob, first.destinations[0].acl) == ("**.csv", "private")
    assert (second.source.object_version, second.destinations[0].object_version) == ("17", "")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["cp"], "SOURCE"),
        (["cp", "src"], "DESTINATION"),
        (["cp", "src", "out"], "Add -r"),
        (["cp", "-r", "scp://c/x", "out"], "not supported yet"),
        (["cp", "-r", "src", "gcs://b"], "gs://b"),
        (["cp", "-r", "src", "src"], "same"),
        (["cp", "-r", "src", "src/in"], "inside"),
        (["cp", "-r", "src", "out", "--gateways", "4"], "--gateways"),
        (["cp", "-r", "src", "out", "--layout", "0:1:1"], "--layout"),
        (["cp", "-r", "src", "out", "--layout", "two"], "--layout"),
        (["cp", "-r", "src", "out", "--part-size", "big"], "--part-size"),
        (["cp", "-r", "src", "out", "--concurrency", "0"], "--concurrency"),
        (["cp", "-r", "src", "out", "--compression", "zip"], "--compression"),
        (["cp", "-r", "src", "out", "--endpoint-url-source", "host"], "--endpoint-url-source"),
        (["cp", "-r", "src", "out", "--requester-pays-source"], "requester_pays means nothing there"),
        (["cp", "-r", "src", "out", "--kms-key", "k"], "kms_key means nothing there"),
        (["cp", "-r", "src", "out", "--acl", "private"], "acl means nothing there"),
        (["cp", "-r", "src", "s3://b/p", "--anonymous-destination", "--acl", "all"], "no access control list 'all'"),
        (["cp", "-r", "src", "out", "--match-glob", "*"], "match_glob means nothing there"),
        (
            ["cp", "-r", "s3://b/p/", "out", "--anonymous-source", "--object-version", "1"],
            "a source that is one object",
        ),
        (["cp", "-r", "src", "out", "--content-type", "text/csv"], "no place for content headers"),
        (["cp", "-r", "src", "out", "--tag", "a=b"], "no place for tags"),
        (["cp", "-r", "src", "out", "--tag", "a"], "NAME=VALUE"),
        (["cp", "-r", "src", "out", "--addressing-source", "dns"], "--addressing-source"),
        (["cp", "-r", "src", "out", "--symlinks", "keep"], "--symlinks"),
        (["cp", "-r", "r2://b/p/", "out"], "which Cloudflare account"),
        (["cp", "-r", "r2://b/p/", "out", "--account-source", "me"], "32 hexadecimal digits"),
        (["cp", "-r", "cos://b/p/", "out"], "which region"),
        (["cp", "-r", "gs://b/p/", "out", "--anonymous-source", "--requester-pays-source"], "project to bill"),
        (["cp", "-r", "src", "out", "--metadata", "a"], "NAME=VALUE"),
        (["cp", "-r", "src", "out", "--metadata-rename", "=b"], "NAME=VALUE"),
        (["cp", "-r", "src", "out", "--metadata", "a=b"], "no place for metadata"),
        (["cp", "-r", "src", "out", "--unfit", "ignore"], "--unfit"),
        (["cp", "-r", "src", "out", "--storage-class", "COLD"], "no place for storage classes"),
        (["cp", "-r", "src", "out", "--keep-tags"], "objects have no tags"),
        (["sync", "src", "out", "--keep-mtime", "--compare", "size+mtime"], "contradict each other"),
        (["cp", "-r", "src", "gs://b/p", "--anonymous-destination", "--storage-class", "COLD"], "STANDARD, NEARLINE"),
        (["cp", "-r", "src", "out", "--report", "missing/report.html"], "report"),
        (["cp", "-r", "src", "out", "--report", "src"], "report"),
        (["cp", "-r", "src", "out", "--receipt", "missing/receipt"], "receipt"),
        (["cp", "-r", "src", "out", "--receipt", "src"], "receipt"),
        (["cp", "-r", "src", "out", "--receipt", "src/receipt"], "among the objects"),
        (["cp", "-r", "src", "out", "--receipt", "missing/"], "receipt"),
        (["cp", "-r", "src", "out", "--receipt", "r.parquet.gz"], "compressed already"),
        (["cp", "-r", "src", "out", "--receipt", "s3://log/r.parquet.gz"], "compressed already"),
        (["cp", "-r", "src", "out", "--receipt", "s3://"], "bucket"),
        (["cp", "-r", "src", "out", "--receipt", "sftp://h/r"], "scheme"),
        (
            ["cp", "-r", "src", "out", "--receipt", "s3://log/r", "--endpoint-url-receipt", "host"],
            "--endpoint-url-receipt",
        ),
        (["cp", "-r", "src", "out", "--resume", "x"], "--resume"),
        (["cp", "-r", "src", "out", "--force"], "--force"),
        (["cp", "-r", "src", "out", "--delete"], "--delete"),
        (["cp", "-r", "src", "out", "--max-delete", "5"], "--max-delete"),
        (["sync", "src", "out", "--max-delete", "5"], "nothing is to be deleted"),
        (["sync", "src", "out", "--delete", "--max-delete", "many"], "--max-delete"),
        (["sync", "src", "out", "--delete", "--max-delete", "101%"], "--max-delete"),
        (["sync", "src", "out", "--delete", "--max-delete", "-1"], "--max-delete"),
        (["sync", "src", "out", "--delete", "--max-objects", "5"], "delete and max_objects contradict"),
        (["sync", "src", "out", "--delete", "--max-bytes", "5"], "delete and max_bytes contradict"),
        (["sync", "src", "out", "--delete", "--manifest", "keys"], "delete and a manifest contradict"),
        (["sync", "src", "out", "--manifest", "missing"], "the manifest cannot be read"),
        (["sync", "src", "out", "--manifest", "empty"], "names no object"),
        (["cp", "file", "out", "--manifest", "keys"], "filters choose from a tree"),
        (["cp", "file", "out", "--include", "*.csv"], "filters choose from a tree"),
        (["sync", "src", "out", "--include", ""], "empty pattern"),
        (["sync", "src", "out", "--exclude-regex", "("], "not a pattern"),
        (["sync", "src", "out", "--exclude", "*", "--include", "*.csv"], "matches everything"),
        (["sync", "src", "out", "--min-size", "big"], "--min-size"),
        (["sync", "src", "out", "--min-size", "2M", "--max-size", "1M"], "min_size is 2097152 and max_size 1048576"),
        (["sync", "src", "out", "--max-age", "yesterday"], "--max-age"),
        (["sync", "src", "out", "--min-age", "2h", "--max-age", "1h"], "min_age is 7200 and max_age 3600"),
        (["sync", "src", "out", "--max-objects", "0"], "--max-objects"),
        (["sync", "src", "out", "--max-bytes", "0"], "--max-bytes"),
        (["sync", "src", "out", "--overwrite", "maybe"], "--overwrite"),
        (["sync", "src", "out", "--server-side-copy", "always"], "--server-side-copy"),
        (["sync", "src", "out", "--compare", "mtime"], "--compare"),
        (["sync", "src", "out", "--compare", "size", "--overwrite", "never"], "compare is 'size'"),
        (["cp", "-r", "src", "out", "--compare", "name", "--overwrite", "if-newer"], "compare is 'name'"),
        (["sync", "-r", "src", "out"], "-r"),
        (["copy", "src", "out"], "copy"),
        ([], "command"),
    ],
)
@pytest.mark.parametrize("mode", ["--json", "--no-json"])
def test_bad_input_is_one_clear_error_and_nothing_is_started(
    shell: Shell, capsys: Captured, argv: list[str], said: str, mode: str
) -> None:
    (shell.home / "keys").write_text("a\n")
    (shell.home / "empty").write_text("\n")
    assert shell(*argv[:1], *([mode] if argv else []), *argv[1:]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert said.lower() in err.lower()
    said_to_programs = [json.loads(line)["exit_code"] for line in out.splitlines()]
    assert said_to_programs == ([] if argv and mode == "--no-json" else [2])
    assert shell.client.events == []
    assert shell.checked == []


def test_filters_reach_the_transfer_in_the_order_in_which_they_were_given(shell: Shell) -> None:
    (shell.home / "keys").write_text("b\na\n")
    argv = ["--exclude", "a*", "--include=*.csv", "--exclude-regex", "b$", "--include", "*.tmp", "--exclude", "*"]
    more = ["--min-size", "1K", "--max-size", "1M", "--min-age", "15m", "--max-age", "2d", "--max-objects", "7"]
    assert shell("sync", *argv, *more, "--max-bytes", "9", "--manifest", "keys", "src", "out") == 0
    assert shell.client.prepared[0].spec.selection.filters == Filters(
        rules=(
            NameRule(include=False, pattern="a*"),
            NameRule(include=True, pattern="*.csv"),
            NameRule(include=False, pattern="b$", regex=True),
            NameRule(include=True, pattern="*.tmp"),
            NameRule(include=False, pattern="*"),
        ),
        min_size=1024,
        max_size=1 << 20,
        min_age=900,
        max_age=172_800,
        keys=("a", "b"),
        max_objects=7,
        max_bytes=9,
    )


def test_what_a_sync_may_do_reaches_the_transfer(shell: Shell) -> None:
    shell("sync", "--dry-run", "--delete", "--max-delete", "10%", "--overwrite", "if-newer", "src", "out")
    shell("sync", "--dry-run", "--delete", "--compare", "size-only", "src", "out")
    shell("cp", "--dry-run", "-r", "--overwrite", "never", "--server-side-copy", "never", "src", "out")
    first, second, third = (prepared.spec.options for prepared in shell.client.prepared)
    assert (first.delete, first.max_delete, first.overwrite) == (True, DeleteCap(None, 10), Overwrite.IF_NEWER)
    assert (second.max_delete, second.compare) == (DeleteCap(1000, 50), Compare.SIZE)
    assert (first.server_side_copy, third.server_side_copy) == (ServerSideCopy.AUTO, ServerSideCopy.NEVER)
    assert (third.delete, third.overwrite, third.compare) == (False, Overwrite.NEVER, Compare.ALWAYS)


def test_the_client_is_made_with_what_was_asked_for() -> None:
    assert Context().client(gateways=2).config.gateways == 2
    config = Context().client(layout="2:1:2", via="both").config
    assert (config.layout, config.via) == ("2:1:2", Via.BOTH)
    assert [role.value for role in config.roles() if role] == ["reader", "reader", "relay", "writer", "writer"]
