"""`iot hub certificate`: CA certificates of a hub, up to which devices' certificates may lead."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group, three_state
from isthmus.cli.errors import CommandError
from isthmus.cli.target import DEVICES_API, Target

API = {"api-version": DEVICES_API}
HUB_ONLY = ("--hub-name",)

FILE_BYTES_MAX = 65_536
"""A certificate file; one certificate has 1 to 3 KB."""

certificate = Group("certificate", help="CA certificates of a hub, up to which devices' certificates may lead.")
name_option = click.option("--name", "-n", "name", required=True, help="The certificate.")
etag_option = click.option("--etag", "-e", required=True, help="Only if it still has this etag; * for any.")
verified_option = three_state("--verified", "-v", help="It counts as verified, without a proof of possession.")


def path_option(what: str) -> Callable[[Any], Any]:
    """`--path -p`, required."""
    return click.option(
        "--path", "-p", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help=what
    )


@certificate.command("create", hub_flags=HUB_ONLY, remote=False)
@name_option
@path_option("File of the certificate: PEM or DER.")
@verified_option
def create_certificate(target: Target, name: str, path: Path, verified: bool | None) -> Any:
    """Registers a CA certificate."""
    known = target.manage("GET", _path(target), query=API)["value"]
    if any(each["name"].lower() == name.lower() for each in known):
        raise CommandError(f"There is a certificate {name} already; to change it: isthmus iot hub certificate update.")
    return target.manage("PUT", _path(target, name), _body(read_file(path), verified), query=API)


@certificate.command("list", hub_flags=HUB_ONLY, remote=False)
def list_certificates(target: Target) -> Any:
    """Lists the CA certificates, as `az` does below `value`."""
    return target.manage("GET", _path(target), query=API)


@certificate.command("show", hub_flags=HUB_ONLY, remote=False)
@name_option
def show_certificate(target: Target, name: str) -> Any:
    """Shows a CA certificate."""
    return target.manage("GET", _path(target, name), query=API)


@certificate.command("update", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@name_option
@click.option(
    "--path", "-p", "path", type=click.Path(dir_okay=False, path_type=Path), help="File of the new one; else as it is."
)
@verified_option
@etag_option
def update_certificate(target: Target, name: str, path: Path | None, verified: bool | None, etag: str) -> Any:
    """Replaces a CA certificate, or says whether it is verified; who hangs on what goes is cut off."""
    text = (
        read_file(path) if path else target.manage("GET", _path(target, name), query=API)["properties"]["certificate"]
    )
    return target.manage("PUT", _path(target, name), _body(text, verified), etag=etag, query=API)


@certificate.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@name_option
@etag_option
def delete_certificate(target: Target, name: str, etag: str) -> Any:
    """Deletes a CA certificate; devices that it vouched for are cut off before the command returns."""
    return target.manage("DELETE", _path(target, name), etag=etag, query=API)


@certificate.command("generate-verification-code", hub_flags=HUB_ONLY, remote=False)
@name_option
@etag_option
def generate_code(target: Target, name: str, etag: str) -> Any:
    """Makes a new code for the proof of possession: the common name of a certificate to sign by the CA's key."""
    return target.manage("POST", f"{_path(target, name)}/generateVerificationCode", etag=etag, query=API)


@certificate.command("verify", hub_flags=HUB_ONLY, remote=False)
@name_option
@path_option("File of the proof: a certificate for the code, signed by the CA's key; PEM or DER.")
@etag_option
def verify_certificate(target: Target, name: str, path: Path, etag: str) -> Any:
    """Verifies a CA certificate by a proof of possession."""
    proof = {"certificate": read_file(path)}
    return target.manage("POST", f"{_path(target, name)}/verify", proof, etag=etag, query=API)


def read_file(path: Path) -> str:
    """A certificate as it is sent: PEM as it is, anything else in base64; raises CommandError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > FILE_BYTES_MAX:
        raise CommandError(f"{path} is larger than {FILE_BYTES_MAX} bytes, and no certificate.")
    try:
        return content.decode("ascii").rstrip()
    except UnicodeDecodeError:
        return base64.b64encode(content).decode()


def _body(text: str, verified: bool | None) -> dict[str, Any]:
    said = {} if verified is None else {"isVerified": verified}
    return {"properties": {"certificate": text, **said}}


def _path(target: Target, name: str = "") -> str:
    base = f"{target.hub_id()}/certificates"
    return f"{base}/{quote(name, safe='')}" if name else base
