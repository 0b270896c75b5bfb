"""Pages of issuers elsewhere, fetched over TLS: key sets and OpenID documents."""

import ssl

import aiohttp

from isthmus.access.issuer_keys import PAGE_BYTES_MAX, Fetch

OK = 200


def page_fetcher(ca_file: str) -> Fetch:
    """Fetches a page, trusting what the system trusts and the certificates in a file, if one is named.

    Redirects are not followed: who publishes keys says where. A proxy is used where the process' environment names one
    (`HTTPS_PROXY`, `NO_PROXY`). Raises OSError for a file that cannot be read, when this is called.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)

    async def fetch(address: str) -> bytes:
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, trust_env=True) as session,
                session.get(address, allow_redirects=False) as answer,
            ):
                if answer.status != OK:
                    raise OSError(f"{address} answers {answer.status}")
                return await _limited(answer, address)
        except aiohttp.ClientError as error:
            raise OSError(f"{address}: {error}") from error

    return fetch


async def _limited(answer: aiohttp.ClientResponse, address: str) -> bytes:
    page = bytearray()
    async for piece in answer.content.iter_any():
        page += piece
        if len(page) > PAGE_BYTES_MAX:
            raise OSError(f"{address} has more than {PAGE_BYTES_MAX} bytes")
    return bytes(page)
