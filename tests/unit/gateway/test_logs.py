import json
import logging
import sys

from gateway.logs import JsonLines


def line(**extra) -> dict:
    record = logging.makeLogRecord({"name": "gateway.x", "levelname": "INFO", "msg": "peer connected", **extra})
    text = JsonLines("gw-0", "data").format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_record_is_one_line_of_json():
    shown = line(peer="gw-1", odd=object)
    assert shown["event"] == "peer connected"
    assert (shown["gateway"], shown["process"], shown["level"], shown["logger"]) == (
        "gw-0",
        "data",
        "info",
        "gateway.x",
    )
    assert shown["fields"]["peer"] == "gw-1"
    assert set(shown["fields"]) == {"peer", "odd"}
    assert "fields" not in line()
    assert shown["time"].endswith("+00:00")


def test_an_exception_stays_on_the_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        shown = line(exc_info=sys.exc_info())
    assert "ValueError: two\nlines" in shown["error"]
