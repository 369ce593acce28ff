"""`grid serve`: the REST API and the web pages, on this home."""

from __future__ import annotations

import click

from gridkeep.api.options import Options, check
from gridkeep.cli.output import message
from gridkeep.errors import GridError
from gridkeep.runs.context import open_context


@click.command(short_help="Serve the REST API and the web pages.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option("--tls-cert", metavar="FILE", help="Certificate chain (PEM), to speak TLS.")
@click.option("--tls-key", metavar="FILE", help="Its private key (PEM).")
@click.option(
    "--behind-proxy", is_flag=True, help="A proxy in front speaks TLS, and says who the clients are."
)
@click.option("--url", metavar="URL", help="The address that people use, where a proxy stands in front.")
def command(
    host: str, port: int, tls_cert: str | None, tls_key: str | None, behind_proxy: bool, url: str | None
) -> int:
    """Serve the REST API, share links and web pages of this home until told to end (Ctrl-C, SIGTERM).

    The last line of stdout is a link that lets one browser in as you; `grid login` prints another, `grid key create` makes
    keys for programs. Runs need no server, and go on when it ends.
    """
    options = Options(
        host=host, port=port, behind_proxy=behind_proxy, tls_cert=tls_cert, tls_key=tls_key, url=url
    )
    check(options)
    try:
        from gridkeep.api.server import serve
    except ImportError as error:
        raise GridError(
            f"`grid serve` needs what is not installed here ({error.name}).",
            "Install it with `pip install 'gridkeep[server]'`.",
        ) from None

    with open_context() as context:
        return serve(context, options, _announce)


def _announce(address: str, link: str) -> None:
    message(f"Serving on {address}; Ctrl-C ends it. This link lets one browser in, once:")
    print(link, flush=True)
