"""`device-identity` and `module-identity`."""

import json

from cli.conftest import Run
from cli.management import KEY, FakeManagement

DEVICE = {
    "deviceId": "press 1",
    "etag": "MQ==",
    "status": "enabled",
    "authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": "c2Vjb25k"}},
    "capabilities": {"iotEdge": False},
}
PATH = "/hubs/hub/devices/press%201"


def test_create_puts_an_identity_that_asks_for_keys(management: FakeManagement, run: Run) -> None:
    management.on("PUT", PATH, DEVICE)
    done = run("iot", "hub", "device-identity", "create", "-d", "press 1")
    assert done.code == 0
    assert json.loads(done.out) == DEVICE
    assert management.last.body == {
        "deviceId": "press 1",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None}},
        "capabilities": {"iotEdge": False},
        "status": "enabled",
    }
    assert "if-match" not in management.last.headers
    assert management.last.query == {"api-version": "2021-04-12"}


def test_the_words_iot_hub_may_be_left_out(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE)
    long = run("iot", "hub", "device-identity", "show", "--device-id", "press 1", "-n", "hub")
    short = run("device-identity", "show", "-d", "press 1")
    assert long == short
    assert json.loads(short.out)["hub"] == "hub.isthmus.test"


def test_output_is_sorted_json_with_two_spaces(management: FakeManagement, run: Run) -> None:
    management.on("PUT", PATH, {"b": "Ä", "a": 1})
    assert run("device-identity", "create", "-d", "press 1").out == '{\n  "a": 1,\n  "b": "Ä"\n}\n'


def test_a_certificate_needs_its_thumbprint(management: FakeManagement, run: Run) -> None:
    done = run("device-identity", "create", "-d", "a", "--am", "x509_thumbprint")
    assert done.code == 1
    assert "--primary-thumbprint" in done.err
    assert management.asked == []


def test_one_key_alone_is_refused(management: FakeManagement, run: Run) -> None:
    done = run("device-identity", "create", "-d", "a", "--pk", KEY)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1


def test_update_sends_what_it_read_with_its_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE)
    management.on("PUT", PATH, DEVICE)
    run("device-identity", "update", "-d", "press 1", "--set", "status=disabled", "statusReason=service", "--ee")
    assert management.last.body == DEVICE | {
        "status": "disabled",
        "statusReason": "service",
        "capabilities": {"iotEdge": True},
    }
    assert management.last.headers["if-match"] == '"MQ=="'


def test_delete_is_unconditional_unless_an_etag_is_given(management: FakeManagement, run: Run) -> None:
    management.on("DELETE", PATH, status=204)
    done = run("device-identity", "delete", "-d", "press 1")
    assert (done.code, done.out) == (0, "")
    assert management.last.headers["if-match"] == '"*"'
    run("device-identity", "delete", "-d", "press 1", "--etag", "MQ==")
    assert management.last.headers["if-match"] == '"MQ=="'


def test_renew_key_swaps(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE)
    management.on("PUT", PATH, DEVICE)
    run("device-identity", "renew-key", "-d", "press 1", "--kt", "swap")
    keys = management.last.body["authentication"]["symmetricKey"]
    assert keys == {"primaryKey": "c2Vjb25k", "secondaryKey": KEY}


def test_renew_key_makes_one_key_anew(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE)
    management.on("PUT", PATH, DEVICE)
    run("device-identity", "renew-key", "-d", "press 1", "--kt", "primary")
    keys = management.last.body["authentication"]["symmetricKey"]
    assert keys["secondaryKey"] == "c2Vjb25k"
    assert keys["primaryKey"] != KEY
    assert len(keys["primaryKey"]) == len(KEY)


def test_list_reads_page_after_page(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/devices/query", [{"deviceId": "a"}], headers={"x-ms-continuation": "next"})
    management.on("POST", "/hubs/hub/devices/query", [{"deviceId": "b"}])
    done = run("device-identity", "list", "--query", "[].deviceId", "-o", "tsv")
    assert done.out == "a\nb\n"
    assert management.last.headers["x-ms-continuation"] == "next"
    assert management.last.body == {"query": "select * from devices"}


def test_list_stops_at_top(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/devices/query", [{"deviceId": "a"}], headers={"x-ms-continuation": "next"})
    run("device-identity", "list", "--top", "1")
    assert [asked.path for asked in management.asked].count("/hubs/hub/devices/query") == 1
    assert management.last.headers["x-ms-max-item-count"] == "1"


def test_connection_string_of_a_device(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE)
    expected = f"HostName=hub.isthmus.test;DeviceId=press 1;SharedAccessKey={KEY}"
    shown = run("iot", "hub", "device-identity", "connection-string", "show", "-d", "press 1")
    assert json.loads(shown.out) == {"connectionString": expected}
    assert run("connection-string", "--device-id", "press 1").out == expected + "\n"


def test_connection_string_of_a_module(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{PATH}/modules/vision", DEVICE | {"moduleId": "vision"})
    out = run("connection-string", "--device-id", "press 1", "--module-id", "vision").out
    assert out == f"HostName=hub.isthmus.test;DeviceId=press 1;ModuleId=vision;SharedAccessKey={KEY}\n"


def test_connection_string_of_a_device_with_a_certificate(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, DEVICE | {"authentication": {"type": "selfSigned"}})
    assert run("connection-string", "-d", "press 1").out.strip().endswith(";x509=true")


def test_modules_are_listed(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{PATH}/modules", [{"moduleId": "a"}, {"moduleId": "b"}])
    done = run("module-identity", "list", "-d", "press 1", "--top", "1")
    assert json.loads(done.out) == [{"moduleId": "a"}]


def test_a_refusal_is_one_sentence_with_its_tracking_id(management: FakeManagement, run: Run) -> None:
    management.on(
        *("GET", PATH, {"Message": "ErrorCode:DeviceNotFound;press 1", "ExceptionMessage": "Tracking ID:abc-G:0"}),
        status=404,
    )
    done = run("device-identity", "show", "-d", "press 1")
    assert done == (1, "", "isthmus: ErrorCode:DeviceNotFound;press 1 (Tracking ID:abc-G:0)\n")
